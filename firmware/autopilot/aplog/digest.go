package aplog

import (
	"hash/crc32"
	"slices"
)

// digest is what is kept of a log, to compare it with its other copy: a checksum of each 4 KiB,
// and for each type of message how many there were and a sum over what they said. It takes the log
// in order.
type digest struct {
	walk   walker
	blocks blocks
	size   int64
}

// walker counts the messages of a log.
type walker interface {
	write(p []byte)
	// gap: bytes are missing here. boundary: what follows begins with a message.
	gap(boundary bool)
	counts() []count
}

// count is about one type of message. Sum adds up a hash of each, so order does not matter.
type count struct {
	Name  string
	Count uint64
	Sum   uint64
}

func newDigest(flavour uint8) *digest {
	if flavour == PX4 {
		return &digest{walk: newULogWalker()}
	}
	return &digest{walk: &flashWalker{}}
}

func (d *digest) write(p []byte) {
	if d == nil {
		return
	}
	d.size += int64(len(p))
	d.walk.write(p)
	d.blocks.write(p)
}

// gap: n bytes do not come.
func (d *digest) gap(n int64) {
	if d == nil || n <= 0 {
		return
	}
	d.size += n
	d.walk.gap(false)
	d.blocks.skip(n)
}

// torn: nobody knows how many bytes do not come, but what follows begins with a message.
func (d *digest) torn() {
	if d == nil {
		return
	}
	d.walk.gap(true)
	d.blocks.off = true
}

const (
	blockSize = 4 << 10
	maxBlocks = 32 << 10 // 128 MiB of a log; what lies behind is compared by its messages alone
)

// blocks are checksums of a file's pieces of blockSize. 0 stands for a piece that did not come
// whole; it equals nothing.
type blocks struct {
	sums []uint32
	crc  uint32
	n    int // bytes in the piece that is not complete
	bad  bool
	off  bool // offsets are not those of the file any more
}

func (b *blocks) write(p []byte) {
	for len(p) > 0 && len(b.sums) < maxBlocks && !b.off {
		n := min(len(p), blockSize-b.n)
		b.crc = crc32.Update(b.crc, crc32.IEEETable, p[:n])
		b.advance(int64(n))
		p = p[n:]
	}
}

func (b *blocks) skip(n int64) {
	for n > 0 && len(b.sums) < maxBlocks && !b.off {
		k := min(n, int64(blockSize-b.n))
		b.bad = true
		b.advance(k)
		n -= k
	}
}

func (b *blocks) advance(n int64) {
	if b.n += int(n); b.n == blockSize {
		b.sums = append(b.sums, b.sum())
		b.crc, b.n, b.bad = 0, 0, false
	}
}

func (b *blocks) sum() uint32 {
	if b.bad {
		return 0
	}
	return max(b.crc, 1)
}

// all are the sums of all pieces, the last one short.
func (b *blocks) all() []uint32 {
	if b.n == 0 || len(b.sums) >= maxBlocks {
		return b.sums
	}
	return append(slices.Clip(b.sums), b.sum())
}

// fnv goes on with the FNV-1a hash (https://datatracker.ietf.org/doc/html/draft-eastlake-fnv).
func fnv(h uint64, p []byte) uint64 {
	for _, b := range p {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

const fnvStart = 14695981039346656037
