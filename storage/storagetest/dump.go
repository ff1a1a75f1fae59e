package storagetest

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// Files returns every file of the Disk by its name, as ReadFile would give it. The
// content is a copy. It is no operation and works after the power cut too.
func (d *Disk) Files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string][]byte{}
	d.walk(".", d.root, func(name string, n *inode) {
		if n.dir == nil {
			files[name] = append([]byte{}, n.medium()...)
		}
	})
	return files
}

// WriteTo writes the Disk below a directory of the real file system, which is made where it
// is missing, so that other programs can be run on it. Files that are there are replaced.
// Directories get 0700, files 0600.
func (d *Disk) WriteTo(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var names []string
	content := map[string][]byte{}
	d.mu.Lock()
	d.walk(".", d.root, func(name string, n *inode) {
		names = append(names, name)
		if n.dir == nil {
			content[name] = n.medium()
		}
	})
	d.mu.Unlock()
	for _, name := range names {
		if err := writeEntry(filepath.Join(dir, filepath.FromSlash(name)), name, content); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// writeEntry writes one file, or one directory where content has no such name.
func writeEntry(target, name string, content map[string][]byte) error {
	if data, ok := content[name]; ok {
		return os.WriteFile(target, data, 0o600)
	}
	return os.MkdirAll(target, 0o700)
}

// walk calls do for every inode below n, a directory before its entries.
func (d *Disk) walk(name string, n *inode, do func(name string, n *inode)) {
	do(name, n)
	if n.dir == nil {
		return
	}
	for base, child := range n.dir.live {
		d.walk(path.Join(name, base), child, do)
	}
}

// Corrupt replaces the bytes of a file by what f makes of them, on the medium and in
// the page cache: rot, a bad sector, an edit by somebody with the card in his hand. f gets
// a copy. It is no operation; a file that is open for writing goes on at the new end.
func (d *Disk) Corrupt(name string, f func([]byte) []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.findFile(name)
	if err != nil {
		return operation{verb: "corrupt", name: name}.fail(err)
	}
	before := n.cost()
	n.data = append([]byte{}, f(append([]byte{}, n.medium()...))...)
	n.synced, n.newest, n.lost, n.over = len(n.data), len(n.data), nil, false
	d.used += n.cost() - before
	d.free = max(0, d.free-(n.cost()-before))
	return nil
}
