package storagetest

import (
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// inode is a file or a directory. Bytes once written never change in their slice, so Disks
// made by Crash share it: a file grows behind them, and Truncate and Replace make a new slice.
type inode struct {
	dir *directory // nil for a file

	data   []byte
	synced int    // data before this offset needs no further Sync
	newest int    // offset where the newest write began
	lost   []span // parts of data[:synced] that the medium never got, in order
	was    []byte // what the medium held before a Replace that is not durable
	over   bool   // there is such a was

	touched bool // changed since its times were set to zero
	links   int  // names that it has
	open    int  // Files and readers that hold it
	locked  bool
}

// span is a range of bytes, to excluded.
type span struct{ from, to int }

// directory holds entries as the program sees them and as the medium has them. pending are
// the changes that lead from one to the other, in order.
type directory struct {
	live, durable map[string]*inode
	pending       []entryChange
}

// entryChange is one change of a directory. node is what the name stands for.
type entryChange struct {
	seq  uint64
	from string // the name before: "" for a new entry
	to   string // the name after: "" for a removed one
	node *inode
	// names are all that the node has after the change.
	names []string
}

func newDir() *inode {
	return &inode{links: 1, dir: &directory{live: map[string]*inode{}, durable: map[string]*inode{}}}
}

// apply makes the change in a set of entries that may lack changes from before.
func (c entryChange) apply(entries map[string]*inode) {
	if c.from != "" && entries[c.from] == c.node {
		delete(entries, c.from)
	} else if c.from != "" && c.to != "" {
		c.dropNames(entries) // an earlier rename never reached the medium
	}
	if c.to != "" {
		entries[c.to] = c.node
	}
}

// dropNames takes the names from the node that it does not have any more.
func (c entryChange) dropNames(entries map[string]*inode) {
	for name, n := range entries {
		if n == c.node && !slices.Contains(c.names, name) {
			delete(entries, name)
		}
	}
}

// namesOf returns the names of a node among entries.
func namesOf(entries map[string]*inode, node *inode) (names []string) {
	for name, n := range entries {
		if n == node {
			names = append(names, name)
		}
	}
	return names
}

// write appends p to what the program sees.
func (n *inode) write(p []byte) {
	n.newest = len(n.data)
	n.data = append(n.data, p...)
	n.touched = true
}

// sync makes data durable; with reached false it only makes it look so.
func (n *inode) sync(reached bool) {
	if !reached && n.synced < len(n.data) {
		n.lost = append(n.lost, span{n.synced, len(n.data)})
	}
	n.synced = len(n.data)
	n.over = n.over && !reached
}

// cut cuts the file, on the medium too.
func (n *inode) cut(size int) {
	n.data = n.data[:size:size]
	n.synced, n.newest, n.over = min(n.synced, size), min(n.newest, size), false
	var lost []span
	for _, h := range n.lost {
		if h.from < size {
			lost = append(lost, span{h.from, min(h.to, size)})
		}
	}
	n.lost = lost
}

// replace puts p in the place of the content; with reached it is durable.
func (n *inode) replace(p []byte, reached bool) {
	if !reached && !n.over {
		n.was = n.medium()
	}
	n.over = !reached
	n.data = append([]byte{}, p...)
	n.synced, n.newest, n.lost = len(p), len(p), nil
	n.touched = !reached
}

// mixture draws what a Replace that did not end well leaves on the medium: sector by sector or
// page by page the old content, the new one, zeros, or both in one.
func mixture(rng *rand.Rand, was, is []byte) []byte {
	sizes := []int{len(was), len(is)}
	switch rng.IntN(4) {
	case 0:
		return was
	case 1:
		return is
	}
	left := make([]byte, sizes[rng.IntN(2)])
	unit := []int{512, blockSize}[rng.IntN(2)]
	for at := 0; at < len(left); at += unit {
		end := min(at+unit, len(left))
		cut := []int{at, end, at + rng.IntN(end-at)}[rng.IntN(3)]
		if rng.IntN(4) > 0 { // else zeros
			copyAt(left[:end], was, cut)
			copyAt(left[:cut], is, at)
		}
	}
	return left
}

// copyAt copies what both hold from offset at on.
func copyAt(dst, src []byte, at int) {
	if at < len(dst) && at < len(src) {
		copy(dst[at:], src[at:])
	}
}

// medium returns the data as a reader finds it who goes past the page cache. The caller
// must not change it.
func (n *inode) medium() []byte {
	return blank(n.data, n.lost)
}

// blank returns data with zeros in the holes. It copies only where there is a hole.
func blank(data []byte, holes []span) []byte {
	copied := false
	for _, h := range holes {
		from, to := min(h.from, len(data)), min(h.to, len(data))
		if from == to {
			continue
		}
		if !copied {
			data, copied = append([]byte(nil), data...), true
		}
		clear(data[from:to])
	}
	return data
}

// reached returns the size up to the last byte that a Sync brought to the medium.
func (n *inode) reached() int {
	end := n.synced
	for i := len(n.lost) - 1; i >= 0 && n.lost[i].to == end; i-- {
		end = n.lost[i].from
	}
	return end
}

// cost is what the inode takes of the free space.
func (n *inode) cost() int64 {
	if n.dir != nil {
		return blockSize
	}
	return int64(len(n.data))
}

// find returns the inode of a name as the program sees it.
func (d *Disk) find(name string) (*inode, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	n := d.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if n.dir == nil {
			return nil, syscall.ENOTDIR
		}
		if n = n.dir.live[part]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// findFile returns the inode of a name that must be a file.
func (d *Disk) findFile(name string) (*inode, error) {
	n, err := d.find(name)
	if err == nil && n.dir != nil {
		return nil, syscall.EISDIR
	}
	return n, err
}

// findDir returns the inode of a name that must be a directory.
func (d *Disk) findDir(name string) (*inode, error) {
	n, err := d.find(name)
	if err == nil && n.dir == nil {
		return nil, syscall.ENOTDIR
	}
	return n, err
}

// parent returns the directory a name lies in, and the last part of the name.
func (d *Disk) parent(name string) (*inode, string, error) {
	if name == "." || !fs.ValidPath(name) {
		return nil, "", fs.ErrInvalid
	}
	n, err := d.findDir(path.Dir(name))
	return n, path.Base(name), err
}

// record makes a change of entries in a directory, not yet durable.
func (d *Disk) record(dir *inode, from, to string, node *inode) {
	d.seq++
	c := entryChange{seq: d.seq, from: from, to: to, node: node}
	c.apply(dir.dir.live)
	if node.links > 1 {
		c.names = namesOf(dir.dir.live, node)
	}
	dir.dir.pending = append(dir.dir.pending, c)
	dir.touched = true
}

// release gives the space of an inode back that has no name and no reader left.
func (d *Disk) release(n *inode) {
	if n.links == 0 && n.open == 0 {
		d.free += n.cost()
		d.used -= n.cost()
	}
}

// unlink takes a name from an inode.
func (d *Disk) unlink(n *inode) {
	n.links--
	d.release(n)
}

// info is the fs.FileInfo of one moment.
type info struct {
	name    string
	size    int64
	mode    fs.FileMode
	touched bool
}

func (n *inode) info(name string) info {
	if n.dir != nil {
		return info{name, blockSize, fs.ModeDir | 0o700, n.touched}
	}
	return info{name, int64(len(n.data)), 0o600, n.touched}
}

func (i info) Name() string      { return i.name }
func (i info) Size() int64       { return i.size }
func (i info) Mode() fs.FileMode { return i.mode }
func (i info) IsDir() bool       { return i.mode.IsDir() }
func (i info) Sys() any          { return nil }

// ModTime is zero seconds since 1970 where a Sync or SyncDir has set it so, and some later
// time where something was changed since: a Disk has no clock.
func (i info) ModTime() time.Time {
	if i.touched {
		return time.Unix(1_000_000_000, 0)
	}
	return time.Unix(0, 0)
}
