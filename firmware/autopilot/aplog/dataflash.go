package aplog

import (
	"bytes"
	"strings"
)

// DataFlash, the format of ArduPilot's logs: two magic bytes, a type, and as many bytes as the FMT
// message says that describes the type
// (https://ardupilot.org/dev/docs/code-overview-adding-a-new-log-message.html,
// https://github.com/ArduPilot/ardupilot/blob/master/libraries/AP_Logger/LogStructure.h).
const (
	flashMagic1 = 0xA3
	flashMagic2 = 0x95
	flashFMT    = 128
	flashFMTLen = 89
)

// flashWalker counts the messages of a DataFlash log. Where one does not follow the other it looks
// for the next.
type flashWalker struct {
	types [256]flashType
	part  []byte // of a message that is not complete
}

type flashType struct {
	name   [4]byte
	length uint8 // of the whole message; 0: not described yet
	count  uint64
	sum    uint64
}

func (w *flashWalker) write(p []byte) {
	if len(w.part) > 0 {
		p = w.complete(p)
	}
	n := w.walk(p)
	w.part = append(w.part, p[n:]...)
}

// complete ends the message that write before left in part, and returns what of p lies behind.
func (w *flashWalker) complete(p []byte) []byte {
	for len(w.part) > 0 && len(p) > 0 {
		n := min(len(p), 256)
		w.part = append(w.part, p[:n]...)
		used := w.walk(w.part)
		rest := len(w.part) - used
		if rest <= n { // what is left came with p alone
			w.part = w.part[:0]
			return p[n-rest:]
		}
		w.part = append(w.part[:0], w.part[used:]...)
		p = p[n:]
	}
	return p
}

// walk counts what is whole in p and returns how many bytes that are, with what is no message.
func (w *flashWalker) walk(p []byte) int {
	at := 0
	for {
		n := w.message(p[at:])
		if n == 0 {
			return at
		}
		at += n
	}
}

// message counts the message at the start of p and returns its size; 0: it is not whole. What is
// no message is as long as the way to the next magic byte.
func (w *flashWalker) message(p []byte) int {
	if len(p) < 3 {
		return 0
	}
	t := &w.types[p[2]]
	n := int(t.length)
	if p[2] == flashFMT {
		n = flashFMTLen
	}
	if p[0] != flashMagic1 || p[1] != flashMagic2 || n < 3 {
		return w.seek(p)
	}
	if len(p) < n {
		return 0
	}
	t.count++
	t.sum += fnv(fnvStart, p[:n])
	if p[2] == flashFMT {
		w.describe(p[:n])
	}
	return n
}

func (w *flashWalker) seek(p []byte) int {
	if i := bytes.IndexByte(p[1:], flashMagic1); i >= 0 {
		return i + 1
	}
	return len(p)
}

func (w *flashWalker) describe(p []byte) {
	t := &w.types[p[3]]
	t.length = p[4]
	copy(t.name[:], p[5:9])
	if p[3] == flashFMT {
		t.length = flashFMTLen
	}
}

func (w *flashWalker) gap(bool) { w.part = w.part[:0] }

func (w *flashWalker) counts() []count {
	var out []count
	for i := range w.types {
		if t := &w.types[i]; t.count > 0 {
			name := strings.ToValidUTF8(strings.TrimRight(string(t.name[:]), "\x00"), "?")
			if i == flashFMT {
				name = "FMT"
			}
			out = append(out, count{name, t.count, t.sum})
		}
	}
	return out
}
