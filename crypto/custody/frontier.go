package custody

import (
	"crypto/sha256"
	"errors"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Frontier is all of a tree that is needed to go on with it: the roots of its perfect subtrees,
// largest first (RFC 6962 section 2.1). The zero value is the empty tree. Its size grows with the
// logarithm of the number of leaves.
type Frontier struct {
	size   int64
	hashes []tlog.Hash
}

// errFrontier means hashes that cannot be those of a tree of that size.
var errFrontier = errors.New("frontier does not fit the number of leaves")

// NewFrontier goes on with a tree of size leaves.
func NewFrontier(size int64, hashes []tlog.Hash) (*Frontier, error) {
	if size < 0 || bits.OnesCount64(uint64(size)) != len(hashes) {
		return nil, errFrontier
	}
	return &Frontier{size, append([]tlog.Hash(nil), hashes...)}, nil
}

// Add appends the hash of a leaf.
func (f *Frontier) Add(h tlog.Hash) {
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.hashes) - 1
		h = tlog.NodeHash(f.hashes[last], h)
		f.hashes = f.hashes[:last]
	}
	f.hashes = append(f.hashes, h)
	f.size++
}

// Size is the number of leaves.
func (f *Frontier) Size() int64 { return f.size }

// Hashes returns a copy of the subtree roots, largest first.
func (f *Frontier) Hashes() []tlog.Hash { return append([]tlog.Hash(nil), f.hashes...) }

// Root is the root of the tree.
func (f *Frontier) Root() tlog.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil)
	}
	h := f.hashes[len(f.hashes)-1]
	for i := len(f.hashes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.hashes[i], h)
	}
	return h
}
