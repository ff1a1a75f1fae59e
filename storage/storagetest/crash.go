package storagetest

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashMode says what a power cut leaves of that which was not synced.
type CrashMode int

const (
	// Strict loses everything that was not synced, entries included.
	Strict CrashMode = iota
	// Random leaves what chance lets reach the medium: each call draws anew.
	Random
	// KeepAll leaves everything but what a failed Sync has lost. It is also what a killed
	// program leaves, for the page cache outlives it.
	KeepAll
)

// Crash returns what a board finds after a power cut at this moment: a new Disk whose whole
// content is durable, with no lock taken, no failure ordered, not read-only, and of the
// same capacity. d stays as it is and may be used on or crashed again.
func (d *Disk) Crash(mode CrashMode) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newCrash(mode, d)
	next := New(d.rng.Uint64())
	next.ignoreSync, next.noLinks = d.ignoreSync, d.noLinks
	next.root = c.directory(d.root)
	next.used = c.used - next.root.cost()
	next.free = max(0, d.free+d.used-next.used)
	return next
}

// crash is one power cut: what was drawn for it, and the space its files take.
type crash struct {
	mode CrashMode
	rng  *rand.Rand
	used int64

	journal bool    // entries are kept in the order of their making, up to upTo
	upTo    uint64  // number of the first change that is forgotten
	keep    float64 // without a journal: share of the changes that is kept

	files map[*inode]*inode // what is left of each file: one, whatever its names
}

func newCrash(mode CrashMode, d *Disk) *crash {
	c := &crash{mode: mode, files: map[*inode]*inode{}, rng: rand.New(rand.NewPCG(d.rng.Uint64(), d.rng.Uint64()))}
	c.journal = c.coin()
	c.keep = c.rng.Float64()
	oldest := oldestPending(d.root, d.seq+1)
	c.upTo = oldest + c.rng.Uint64N(d.seq+2-oldest)
	return c
}

// oldestPending returns the number of the oldest change below n that is not durable, or limit.
func oldestPending(n *inode, limit uint64) uint64 {
	if n.dir == nil {
		return limit
	}
	if len(n.dir.pending) > 0 {
		limit = min(limit, n.dir.pending[0].seq)
	}
	for _, child := range n.dir.live {
		limit = oldestPending(child, limit)
	}
	return limit
}

func (c *crash) coin() bool { return c.rng.IntN(2) == 0 }

// directory returns what is left of a directory and all below it.
func (c *crash) directory(n *inode) *inode {
	kept, all := c.entries(n.dir)
	left := newDir()
	left.touched = n.touched && all
	for _, name := range slices.Sorted(maps.Keys(kept)) { // sorted: a seed must mean one outcome
		child := kept[name]
		if child.dir != nil {
			child = c.directory(child)
		} else {
			child = c.file(child)
		}
		left.dir.durable[name] = child
	}
	left.dir.live = maps.Clone(left.dir.durable)
	c.used += left.cost()
	return left
}

// entries returns the entries the medium has, and whether every change is among them.
func (c *crash) entries(dir *directory) (kept map[string]*inode, all bool) {
	kept = maps.Clone(dir.durable)
	all = true
	behind := forgotten{}
	for _, change := range dir.pending {
		if c.keeps(change, behind) {
			change.apply(kept)
		} else {
			behind.add(change)
			all = false
		}
	}
	return kept, all
}

func (c *crash) keeps(change entryChange, behind forgotten) bool {
	switch {
	case c.mode == Strict:
		return false
	case c.mode == KeepAll:
		return true
	case c.journal:
		return change.seq < c.upTo
	}
	return !behind.blocks(change) && c.rng.Float64() < c.keep
}

// forgotten are the names with a change that was forgotten: a later change of one of them
// cannot have reached the medium before. As each change of a file names the file as the
// change before left it, this keeps the order of the changes of a file too.
type forgotten map[string]bool

func (f forgotten) add(c entryChange) {
	for _, name := range []string{c.from, c.to} {
		if name != "" {
			f[name] = true
		}
	}
}

func (f forgotten) blocks(c entryChange) bool { return f[c.from] || f[c.to] }

// file returns what is left of a file, for one of its names.
func (c *crash) file(n *inode) *inode {
	left := c.files[n]
	if left == nil {
		left = c.content(n)
		c.used += left.cost()
		c.files[n] = left
	}
	left.links++
	return left
}

// content returns what is left of what a file holds.
func (c *crash) content(n *inode) *inode {
	if n.over && c.mode != KeepAll {
		data := n.was
		if c.mode == Random {
			data = mixture(c.rng, n.was, n.data)
		}
		return &inode{data: data[:len(data):len(data)], synced: len(data), touched: n.touched}
	}
	size, holes := c.extent(n)
	data := blank(blank(n.data[:size:size], n.lost), holes)
	return &inode{
		data:    data,
		synced:  size,
		touched: n.touched && size > n.reached(),
	}
}

// rarely is true once in four times.
func (c *crash) rarely() bool {
	if !c.coin() {
		return false
	}
	return c.coin()
}

// extent returns the size of what is left of a file, and where it holds zeros instead of
// what was written.
func (c *crash) extent(n *inode) (size int, holes []span) {
	switch {
	case c.mode == KeepAll:
		return len(n.data), nil
	case c.mode == Strict || c.rarely():
		return n.reached(), nil
	case n.synced == len(n.data): // the rest was lost in a failed Sync; its size may be there
		return c.between(n.reached(), n.synced), nil
	}
	return c.tail(n)
}

// tail draws how data that was not synced reached the medium in part.
func (c *crash) tail(n *inode) (size int, holes []span) {
	low, high := n.synced, len(n.data)
	unit := 512
	if c.coin() {
		unit = blockSize
	}
	switch c.rng.IntN(6) {
	case 0: // all of it
		return high, nil
	case 1: // torn at any byte
		return c.between(low, high), nil
	case 2: // torn in the newest write
		return c.between(max(low, n.newest), high), nil
	case 3: // torn between pages
		return c.pageEnd(low, high, unit), nil
	case 4: // the size is there, the data is not
		size = c.between(low, high)
		return size, []span{{low, size}}
	}
	size = high // pages written back in any order
	if c.coin() {
		size = c.pageEnd(low, high, unit)
	}
	return size, c.missingPages(low, size, unit)
}

// between draws a number of low to high, both included.
func (c *crash) between(low, high int) int { return low + c.rng.IntN(high-low+1) }

// pageEnd draws a multiple of unit, or low where there is none.
func (c *crash) pageEnd(low, high, unit int) int {
	return max(low, c.between(low, high)/unit*unit)
}

// missingPages draws which pages of low to high did not reach the medium.
func (c *crash) missingPages(low, high, unit int) []span {
	var holes []span
	for at := low / unit * unit; at < high; at += unit {
		if c.coin() {
			holes = append(holes, span{max(low, at), min(high, at+unit)})
		}
	}
	return holes
}
