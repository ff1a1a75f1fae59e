package aplog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ULog, the format of PX4's logs: a header of 16 bytes, then messages of a size, a type and as many
// bytes (https://docs.px4.io/main/en/dev_log/ulog_file_format.html).
const (
	ulogHeader    = 16
	ulogHead      = 3    // of a message
	ulogMaxNames  = 1024 // types that are counted apart
	ulogHeadBytes = 64   // of a message's content that are looked at
)

var (
	ulogMagic = []byte{'U', 'L', 'o', 'g', 0x01, 0x12, 0x35}
	// ulogSync is a message that says nothing: a place to go on behind damage.
	ulogSync = []byte{8, 0, 'S', 0x2F, 0x73, 0x13, 0x20, 0x25, 0x0C, 0xBB, 0x12}
)

// ulogWalker counts the messages of a ULog.
type ulogWalker struct {
	names map[uint16]string // of subscriptions, by the id that data have
	types map[string]*count

	header int // bytes of the file's header that have not come
	head   [ulogHead + ulogHeadBytes]byte
	have   int // bytes of head
	left   int // bytes of the message's content that have not come
	hash   uint64
	lost   bool   // no message is known to begin here
	tail   []byte // while lost: what may be the start of a sync message
}

func newULogWalker() *ulogWalker {
	return &ulogWalker{names: map[uint16]string{}, types: map[string]*count{}, header: ulogHeader}
}

func (w *ulogWalker) write(p []byte) {
	for len(p) > 0 {
		switch {
		case w.header > 0:
			n := min(w.header, len(p))
			w.header -= n
			p = p[n:]
		case w.lost:
			p = w.seek(p)
		case w.have < ulogHead:
			n := copy(w.head[w.have:ulogHead], p)
			w.have += n
			p = p[n:]
			w.begin()
		default:
			n := min(w.left, len(p))
			w.content(p[:n])
			p = p[n:]
		}
	}
}

// begin looks at the head of a message, once it is whole.
func (w *ulogWalker) begin() {
	if w.have < ulogHead {
		return
	}
	w.left = int(binary.LittleEndian.Uint16(w.head[:]))
	w.hash = fnv(fnvStart, w.head[:ulogHead])
	if w.head[2] < 'A' || w.head[2] > 'Z' {
		w.lost, w.have = true, 0
		return
	}
	w.content(nil)
}

func (w *ulogWalker) content(p []byte) {
	w.hash = fnv(w.hash, p)
	w.have += copy(w.head[w.have:], p)
	if w.left -= len(p); w.left == 0 {
		w.ended()
	}
}

// ended counts a message.
func (w *ulogWalker) ended() {
	body := w.head[ulogHead:w.have]
	name := string(w.head[2:3])
	switch {
	case name == "A" && len(body) > 3:
		if len(w.names) < ulogMaxNames {
			w.names[binary.LittleEndian.Uint16(body[1:])] = fmt.Sprintf("%s[%d]", strings.ToValidUTF8(string(body[3:]), "?"), body[0])
		}
	case name == "D" && len(body) >= 2:
		name = "D " + w.names[binary.LittleEndian.Uint16(body)]
	}
	c := w.types[name]
	if c == nil {
		if len(w.types) >= ulogMaxNames {
			name = "other"
		}
		if c = w.types[name]; c == nil {
			c = &count{Name: name}
			w.types[name] = c
		}
	}
	c.Count++
	c.Sum += w.hash
	w.have = 0
}

// seek looks for a sync message and returns what lies behind it.
func (w *ulogWalker) seek(p []byte) []byte {
	n := len(w.tail)
	w.tail = append(w.tail, p...)
	if i := bytes.Index(w.tail, ulogSync); i >= 0 {
		behind := i + len(ulogSync) - n
		w.tail, w.lost = w.tail[:0], false
		return p[behind:]
	}
	keep := min(len(w.tail), len(ulogSync)-1)
	w.tail = append(w.tail[:0], w.tail[len(w.tail)-keep:]...)
	return nil
}

func (w *ulogWalker) gap(boundary bool) {
	w.have, w.left, w.header = 0, 0, 0
	w.tail, w.lost = w.tail[:0], !boundary
}

func (w *ulogWalker) counts() []count {
	var out []count
	for _, name := range slices.Sorted(maps.Keys(w.types)) {
		out = append(out, *w.types[name])
	}
	return out
}
