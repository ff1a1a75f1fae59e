package aplog

// window puts the pieces of a file in order: those that lie between base, up to which all was
// taken, and as many bytes behind it as it holds.
type window struct {
	buf  []byte // a ring: the byte at offset o of the file lies at o % len(buf)
	base int64
	got  ranges // of what lies at or behind base
}

func newWindow(size int) *window { return &window{buf: make([]byte, size)} }

// room is the first offset that does not fit.
func (w *window) room() int64 { return w.base + int64(len(w.buf)) }

// put keeps what of p, which lies at off, is new and fits. It returns how many bytes that are.
func (w *window) put(off int64, p []byte) int {
	from, to := max(off, w.base), min(off+int64(len(p)), w.room())
	if from >= to {
		return 0
	}
	fresh := w.got.holes(from, to, maxRanges)
	if !w.got.add(from, to) {
		return 0
	}
	n := 0
	for _, r := range fresh {
		w.copy(r.From, p[r.From-off:r.To-off])
		n += int(r.To - r.From)
	}
	return n
}

func (w *window) copy(off int64, p []byte) {
	n := copy(w.buf[off%int64(len(w.buf)):], p)
	copy(w.buf, p[n:])
}

// ready returns bytes at base that have come, n at most. They are valid until the next put.
func (w *window) ready(n int64) []byte {
	at := w.base % int64(len(w.buf))
	n = min(n, w.got.reach(w.base)-w.base, int64(len(w.buf))-at)
	return w.buf[at : at+n]
}

// waiting is how many bytes at base have come.
func (w *window) waiting() int64 { return w.got.reach(w.base) - w.base }

// move sets base: what lies before it was taken, or is given up.
func (w *window) move(base int64) {
	w.base = base
	w.got.drop(base)
}
