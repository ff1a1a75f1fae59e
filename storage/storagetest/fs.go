package storagetest

import (
	"cmp"
	"io"
	"io/fs"
	"maps"
	"slices"
	"syscall"

	"holdfast/storage/vault"
)

// Create implements vault.FS.
func (d *Disk) Create(name string) (vault.File, error) {
	var f *file
	err := d.change(operation{verb: "create", name: name}, func() error {
		n := &inode{links: 1, touched: true}
		if err := d.add(name, n); err != nil {
			return err
		}
		n.open++
		f = &file{d: d, name: name, node: n}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Mkdir implements vault.FS.
func (d *Disk) Mkdir(name string) error {
	return d.change(operation{verb: "mkdir", name: name}, func() error {
		n := newDir()
		n.touched = true
		return d.add(name, n)
	})
}

// add gives a new inode its name and its space.
func (d *Disk) add(name string, n *inode) error {
	dir, base, err := d.parent(name)
	if err != nil {
		return err
	}
	if dir.dir.live[base] != nil {
		return fs.ErrExist
	}
	if n.cost() > d.free {
		return syscall.ENOSPC
	}
	d.free -= n.cost()
	d.used += n.cost()
	d.record(dir, "", base, n)
	return nil
}

// Append implements vault.FS.
func (d *Disk) Append(name string) (vault.File, error) {
	var f *file
	err := d.change(operation{verb: "append", name: name}, func() error {
		n, err := d.findFile(name)
		if err != nil {
			return err
		}
		n.open++
		f = &file{d: d, name: name, node: n}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Truncate implements vault.FS. One that fails, or that the power cut falls into, may have been
// done all the same.
func (d *Disk) Truncate(name string, size int64) error {
	return d.inPlace(operation{verb: "truncate", name: name}, func(n *inode, fault bool) error {
		if size < 0 || size > int64(len(n.data)) {
			return fs.ErrInvalid // the vault never makes a file longer by this
		}
		if fault && d.coin() {
			return nil
		}
		before := n.cost()
		n.sync(true)
		n.cut(int(size))
		n.touched = false
		d.account(n.cost() - before)
		return nil
	})
}

// Replace implements vault.FS. One that fails leaves a mixture of old and new content, and so
// does a Crash after the power cut fell into it.
func (d *Disk) Replace(name string, p []byte) error {
	return d.inPlace(operation{verb: "replace", name: name}, func(n *inode, fault bool) error {
		before := n.cost()
		if int64(len(p))-before > d.free {
			return syscall.ENOSPC
		}
		switch {
		case d.off || d.ignoreSync:
			n.replace(p, false)
		case fault:
			n.replace(mixture(d.rng, n.medium(), p), true)
		default:
			n.replace(p, true)
		}
		d.account(n.cost() - before)
		return nil
	})
}

// inPlace does an operation that changes what a file holds; do is told whether it fails.
func (d *Disk) inPlace(o operation, do func(n *inode, fault bool) error) error {
	cut, fault := d.begin(o)
	defer d.mu.Unlock()
	if d.off && !cut {
		return o.fail(fault)
	}
	n, err := d.findFile(o.name)
	switch {
	case err != nil:
	case d.readOnly:
		err = syscall.EROFS
	default:
		err = do(n, fault != nil)
	}
	return o.fail(cmp.Or(fault, err))
}

// account takes bytes from the free space.
func (d *Disk) account(bytes int64) {
	d.used += bytes
	d.free = max(0, d.free-bytes)
}

// OpenSynced implements vault.FS. It shows what the medium holds at this moment.
func (d *Disk) OpenSynced(name string) (io.ReadSeekCloser, error) {
	o := operation{verb: "opensynced", name: name}
	cut, fault := d.begin(o)
	defer d.mu.Unlock()
	if cut || d.off {
		return nil, o.fail(fault)
	}
	n, err := d.findFile(name)
	if err != nil {
		return nil, o.fail(cmp.Or(fault, err))
	}
	if fault == nil && d.readOnly && n.synced < len(n.data) {
		fault = syscall.EROFS
	}
	if fault != nil || !d.ignoreSync {
		n.sync(fault == nil)
	}
	if fault != nil {
		return nil, o.fail(fault)
	}
	n.touched = false
	n.open++
	return &reader{d: d, name: name, node: n, held: n.medium(), isHeld: true}, nil
}

// Open implements vault.FS. It reads through the page cache: it shows bytes that
// a failed Sync has lost.
func (d *Disk) Open(name string) (io.ReadCloser, error) {
	var r *reader
	err := d.look(operation{verb: "open", name: name}, func() error {
		n, err := d.findFile(name)
		if err != nil {
			return err
		}
		n.open++
		r = &reader{d: d, name: name, node: n}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// ReadFile implements vault.FS. It goes past the page cache: bytes that a failed Sync has
// lost are zeros.
func (d *Disk) ReadFile(name string) ([]byte, error) {
	var data []byte
	err := d.look(operation{verb: "read", name: name}, func() error {
		n, err := d.findFile(name)
		if err != nil {
			return err
		}
		data = append([]byte{}, n.medium()...)
		return nil
	})
	return data, err
}

// Rename implements vault.FS. It refuses to move a name to another directory with EXDEV.
func (d *Disk) Rename(oldName, newName string) error {
	return d.change(operation{verb: "rename", name: oldName, newName: newName}, func() error {
		dir, from, err := d.parent(oldName)
		if err != nil {
			return err
		}
		dir2, to, err := d.parent(newName)
		if err != nil {
			return err
		}
		if dir != dir2 {
			return syscall.EXDEV
		}
		return d.rename(dir, from, to)
	})
}

func (d *Disk) rename(dir *inode, from, to string) error {
	n, replaced := dir.dir.live[from], dir.dir.live[to]
	switch {
	case n == nil:
		return fs.ErrNotExist
	case from == to || n == replaced: // two names of one file stay both (POSIX, rename)
		return nil
	case replaced == nil:
	case n.dir == nil && replaced.dir != nil:
		return syscall.EISDIR
	case n.dir != nil && replaced.dir == nil:
		return syscall.ENOTDIR
	case replaced.dir != nil && len(replaced.dir.live) > 0:
		return syscall.ENOTEMPTY
	}
	d.record(dir, from, to, n)
	if replaced != nil {
		d.unlink(replaced)
	}
	return nil
}

// Link implements vault.FS. Both names lie in the same directory.
func (d *Disk) Link(oldName, newName string) error {
	return d.change(operation{verb: "link", name: oldName, newName: newName}, func() error {
		n, err := d.findFile(oldName)
		if err != nil {
			return err
		}
		old, _, err := d.parent(oldName)
		if err != nil {
			return err
		}
		dir, base, err := d.parent(newName)
		switch {
		case err != nil:
			return err
		case dir != old:
			return syscall.EXDEV
		case dir.dir.live[base] != nil:
			return fs.ErrExist
		case d.noLinks:
			return syscall.EPERM
		}
		n.links++
		d.record(dir, "", base, n)
		return nil
	})
}

// ForgetTimes implements vault.FS.
func (d *Disk) ForgetTimes(name string) error {
	return d.change(operation{verb: "forgettimes", name: name}, func() error {
		dir, base, err := d.parent(name)
		if err != nil {
			return err
		}
		n := dir.dir.live[base]
		if n == nil {
			return fs.ErrNotExist
		}
		n.touched = false
		return nil
	})
}

// Remove implements vault.FS.
func (d *Disk) Remove(name string) error {
	return d.change(operation{verb: "remove", name: name}, func() error {
		dir, base, err := d.parent(name)
		if err != nil {
			return err
		}
		n := dir.dir.live[base]
		if n == nil {
			return fs.ErrNotExist
		}
		if n.dir != nil && len(n.dir.live) > 0 {
			return syscall.ENOTEMPTY
		}
		d.record(dir, base, "", n)
		d.unlink(n)
		return nil
	})
}

// ReadDir implements vault.FS. The order of the entries is drawn anew each time.
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	var entries []fs.DirEntry
	err := d.look(operation{verb: "readdir", name: name}, func() error {
		n, err := d.findDir(name)
		if err != nil {
			return err
		}
		for _, base := range slices.Sorted(maps.Keys(n.dir.live)) {
			entries = append(entries, fs.FileInfoToDirEntry(n.dir.live[base].info(base)))
		}
		d.rng.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		return nil
	})
	return entries, err
}

// SyncDir implements vault.FS.
func (d *Disk) SyncDir(name string) error {
	o := operation{verb: "syncdir", name: name}
	cut, fault := d.begin(o)
	defer d.mu.Unlock()
	if cut || d.off {
		return o.fail(fault)
	}
	n, err := d.findDir(name)
	if err != nil {
		return o.fail(err)
	}
	if fault == nil && d.readOnly && len(n.dir.pending) > 0 {
		fault = syscall.EROFS
	}
	if fault == nil && d.ignoreSync {
		return nil
	}
	if fault == nil {
		for _, c := range n.dir.pending {
			c.apply(n.dir.durable)
		}
		n.touched = false
	}
	n.dir.pending = nil
	return o.fail(fault)
}

// Free implements vault.FS.
func (d *Disk) Free() (int64, error) {
	var free int64
	err := d.look(operation{verb: "free"}, func() error {
		free = d.free
		return nil
	})
	return free, err
}

// Lock implements vault.FS. A Disk made by Crash has no lock taken.
func (d *Disk) Lock(name string) (io.Closer, error) {
	var l *lock
	err := d.look(operation{verb: "lock", name: name}, func() error {
		n, err := d.findDir(name)
		if err != nil {
			return err
		}
		if n.locked {
			return vault.ErrLocked
		}
		n.locked = true
		l = &lock{d: d, node: n}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}
