package storagetest

import (
	"cmp"
	"io"
	"io/fs"
	"syscall"
)

// file is an open file of a Disk, for writing.
type file struct {
	d      *Disk
	name   string
	node   *inode
	closed bool
}

// Write appends p. Where it fails, n bytes of p have been taken all the same.
func (f *file) Write(p []byte) (int, error) {
	o := operation{verb: "write", name: f.name}
	cut, err := f.d.begin(o)
	defer f.d.mu.Unlock()
	switch {
	case f.closed:
		return 0, o.fail(fs.ErrClosed)
	case f.d.off && !cut:
		return 0, o.fail(err)
	case f.d.readOnly:
		return 0, o.fail(cmp.Or(err, error(syscall.EROFS)))
	case err != nil:
		return f.d.take(f.node, p[:f.d.part(len(p))]), o.fail(err)
	case int64(len(p)) > f.d.free:
		return f.d.take(f.node, p[:f.d.short()]), o.fail(syscall.ENOSPC)
	}
	return f.d.take(f.node, p), nil
}

// take writes what there is space for and returns its size.
func (d *Disk) take(n *inode, p []byte) int {
	p = p[:min(int64(len(p)), d.free)]
	n.write(p)
	d.free -= int64(len(p))
	d.used += int64(len(p))
	return len(p)
}

// part draws how much of a write of size bytes was taken before it failed: less than all
// of it, often none.
func (d *Disk) part(size int) int {
	if size == 0 || d.coin() {
		return 0
	}
	return d.rng.IntN(size)
}

// short draws how much of a write is taken that does not fit: what fits, or nothing.
func (d *Disk) short() int64 {
	if d.coin() {
		return d.free
	}
	return 0
}

// Sync makes what was written durable.
func (f *file) Sync() error {
	o := operation{verb: "sync", name: f.name}
	_, err := f.d.begin(o)
	defer f.d.mu.Unlock()
	switch {
	case f.closed:
		return o.fail(fs.ErrClosed)
	case f.d.off:
		return o.fail(err)
	case err == nil && f.d.readOnly && f.node.synced < len(f.node.data):
		err = syscall.EROFS
	}
	if err == nil && f.d.ignoreSync {
		return nil
	}
	f.node.sync(err == nil)
	if err == nil {
		f.node.touched = false
	}
	return o.fail(err)
}

// Close lets go of the file. It makes nothing durable.
func (f *file) Close() error {
	return f.d.letGo(f.node, f.name, &f.closed)
}

// letGo closes a file or a reader once.
func (d *Disk) letGo(n *inode, name string, closed *bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if *closed {
		return operation{verb: "close", name: name}.fail(fs.ErrClosed)
	}
	*closed = true
	n.open--
	d.release(n)
	return nil
}

// reader is an open file of a Disk, for reading. It sees what is written later, but where
// isHeld is set: then it sees what the medium held.
type reader struct {
	d      *Disk
	name   string
	node   *inode
	held   []byte
	isHeld bool
	pos    int
	closed bool
}

func (r *reader) content() []byte {
	if r.isHeld {
		return r.held
	}
	return r.node.data
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += int64(r.pos)
	case io.SeekEnd:
		offset += int64(len(r.content()))
	}
	if r.closed || offset < 0 {
		return 0, operation{verb: "seek", name: r.name}.fail(fs.ErrInvalid)
	}
	r.pos = int(offset)
	return offset, nil
}

func (r *reader) Read(p []byte) (int, error) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	o := operation{verb: "read", name: r.name}
	switch {
	case r.closed:
		return 0, o.fail(fs.ErrClosed)
	case r.d.off:
		return 0, o.fail(ErrPowerCut)
	case len(p) == 0:
		return 0, nil
	case r.pos >= len(r.content()):
		return 0, io.EOF
	}
	n := copy(p, r.content()[r.pos:])
	r.pos += n
	return n, nil
}

func (r *reader) Close() error {
	return r.d.letGo(r.node, r.name, &r.closed)
}

// lock is a lock taken on a directory.
type lock struct {
	d      *Disk
	node   *inode
	closed bool
}

func (l *lock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if l.closed {
		return fs.ErrClosed
	}
	l.closed = true
	l.node.locked = false
	return nil
}
