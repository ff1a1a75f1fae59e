package flight

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"strings"
)

// PX4's logs are a head and messages: u16 LE size of the payload, u8 type, payload
// (https://docs.px4.io/main/en/dev_log/ulog_file_format.html).
const (
	ulogFileHead = 16
	ulogHead     = 3
	ulogChain    = 4 // messages in a row by which a reader finds its way again
)

var (
	ulogMagic = []byte{'U', 'L', 'o', 'g', 0x01, 0x12, 0x35}
	ulogSync  = []byte{8, 0, 'S', 0x2F, 0x73, 0x13, 0x20, 0x25, 0x0C, 0xBB, 0x12} // a whole message
)

// ulogBasic are the types of fields that need no format of their own.
var ulogBasic = map[string]bool{"int8_t": true, "uint8_t": true, "int16_t": true, "uint16_t": true, "int32_t": true, "uint32_t": true,
	"int64_t": true, "uint64_t": true, "float": true, "double": true, "bool": true, "char": true}

// ulog takes the whole messages of a PX4 log whose meaning is known: a format that a hole took
// leaves its data without.
type ulog struct {
	formats map[string][]string // types of fields that are formats, by name
	logged  map[uint16]bool     // what a message says about itself is there
	sizes   map[uint16]int      // payload of data messages that were seen
}

func newULog() *ulog {
	return &ulog{formats: map[string][]string{}, logged: map[uint16]bool{}, sizes: map[uint16]int{}}
}

// row implements salvager.
func (u *ulog) row(r *bufio.Reader, first bool, w *bufio.Writer) error {
	if first {
		p, err := r.Peek(ulogFileHead)
		if err != nil || !bytes.HasPrefix(p, ulogMagic) {
			return errNoBeginning
		}
		if err := copyNext(r, ulogFileHead, w); err != nil {
			return err
		}
	}
	for aligned := first; ; {
		if !aligned {
			found, err := u.align(r)
			if !found {
				return err
			}
		}
		n, err := u.whole(r)
		if past(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if aligned = n > 0; !aligned {
			skip(r, 1)
			continue
		}
		if err := u.take(r, n, w); err != nil {
			return err
		}
	}
}

// align finds the next message by a sync message or by a chain of data.
func (u *ulog) align(r *bufio.Reader) (found bool, err error) {
	for {
		p, err := r.Peek(salvageWindow)
		if err != nil && !past(err) {
			return false, err
		}
		for at := range p {
			if bytes.HasPrefix(p[at:], ulogSync) || u.chain(p[at:]) {
				skip(r, at)
				return true, nil
			}
		}
		if err != nil {
			return false, nil
		}
		skip(r, len(p)-1024) // a sync message or chain may begin in what is left
	}
}

// chain tells whether p begins with several messages that can hardly be anything else.
func (u *ulog) chain(p []byte) bool {
	for range ulogChain {
		if len(p) < ulogHead+4 {
			return false
		}
		n := int(binary.LittleEndian.Uint16(p))
		if len(p)-ulogHead < n || !u.certain(p[2], p[ulogHead:ulogHead+n]) {
			return false
		}
		p = p[ulogHead+n:]
	}
	return true
}

// certain tells data of known size, and text where the format has some.
func (u *ulog) certain(kind byte, p []byte) bool {
	switch {
	case kind == 'D' && len(p) >= 2:
		size, ok := u.sizes[binary.LittleEndian.Uint16(p)]
		return ok && size == len(p)
	case kind == 'F':
		return bytes.IndexByte(p, ':') > 0 && printable(p)
	case kind == 'A' && len(p) > 3:
		return printable(p[3:])
	}
	return false
}

func printable(p []byte) bool {
	return !bytes.ContainsFunc(p, func(r rune) bool { return r < ' ' || r > '~' })
}

// whole returns the length of the message at the start of r; 0 where none is that is known.
func (u *ulog) whole(r *bufio.Reader) (int, error) {
	p, err := r.Peek(ulogHead)
	if err != nil {
		return 0, err
	}
	n := ulogHead + int(binary.LittleEndian.Uint16(p))
	if n == ulogHead || !bytes.ContainsRune([]byte("BFIMPQADLCSOR"), rune(p[2])) {
		return 0, nil
	}
	_, err = r.Peek(n)
	return n, err
}

// take writes the next message, of n bytes, where its meaning is known.
func (u *ulog) take(r *bufio.Reader, n int, w *bufio.Writer) error {
	p, err := r.Peek(n)
	if err != nil {
		return err
	}
	if !u.keep(p[2], p[ulogHead:]) {
		skip(r, n)
		return nil
	}
	if p[2] == 'B' {
		p = bytes.Clone(p)
		notAppended(p[ulogHead:])
	}
	if _, err := w.Write(p); err != nil {
		return err
	}
	skip(r, n)
	return nil
}

// keep learns from a message and tells whether a reader can use it.
func (u *ulog) keep(kind byte, p []byte) bool {
	switch kind {
	case 'F':
		name, fields, ok := strings.Cut(string(p), ":")
		if ok && len(u.formats) < 10_000 {
			u.formats[name] = nestedTypes(fields)
		}
		return ok
	case 'A':
		if len(p) < 4 || !u.complete(string(p[3:]), 0) {
			return false
		}
		u.logged[binary.LittleEndian.Uint16(p[1:])] = true
	case 'D':
		if len(p) < 2 || !u.logged[binary.LittleEndian.Uint16(p)] {
			return false
		}
		u.sizes[binary.LittleEndian.Uint16(p)] = len(p)
	}
	return true
}

// nestedTypes returns the types of fields that are formats themselves.
func nestedTypes(fields string) (nested []string) {
	for field := range strings.SplitSeq(fields, ";") {
		kind, _, _ := strings.Cut(field, " ")
		kind, _, _ = strings.Cut(kind, "[")
		if kind != "" && !ulogBasic[kind] {
			nested = append(nested, kind)
		}
	}
	return nested
}

// complete tells whether a format is known, and all that it is made of.
func (u *ulog) complete(name string, depth int) bool {
	nested, ok := u.formats[name]
	if !ok || depth > 4 || len(nested) > 64 {
		return false
	}
	for _, n := range nested {
		if !u.complete(n, depth+1) {
			return false
		}
	}
	return true
}

// notAppended takes back that data were appended behind the log's own end, at offsets that no
// longer hold: bit 0 of the incompatible flags, and three offsets.
func notAppended(p []byte) {
	if len(p) >= 40 {
		p[8] &^= 1
		clear(p[16:40])
	}
}
