package storagetest

import (
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
		n := &inode{linked: true, touched: true}
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
	case from == to:
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
