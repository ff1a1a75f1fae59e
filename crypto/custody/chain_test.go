package custody_test

import (
	"crypto/ed25519"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"holdfast/crypto/custody"
)

// naiveTree hashes leaves with golang.org/x/mod/sumdb/tlog alone.
type naiveTree struct {
	t      testing.TB
	size   int64
	stored []tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (n *naiveTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = n.stored[x]
	}
	return out, nil
}

func (n *naiveTree) add(l custody.Leaf) {
	n.t.Helper()
	hs, err := tlog.StoredHashes(n.size, slices.Concat([]byte{byte(l.Kind)}, l.Body), n)
	if err != nil {
		n.t.Fatal(err)
	}
	n.stored = append(n.stored, hs...)
	n.size++
}

func (n *naiveTree) root(size int64) tlog.Hash {
	n.t.Helper()
	h, err := tlog.TreeHash(size, n)
	if err != nil {
		n.t.Fatal(err)
	}
	return h
}

// chain follows the keys through log.bin, by the text of the format and not by the code of Log.
type chain struct {
	b           *board
	tree        *naiveTree
	boot, epoch int64
	start, last int64
	key         ed25519.PublicKey
	inForce     []ed25519.PublicKey // after each leaf
}

// checkChain checks the signatures, epochs and times of every leaf, and both slots.
func checkChain(b *board) *chain {
	b.t.Helper()
	c := &chain{b: b, tree: &naiveTree{t: b.t}}
	for _, l := range b.leaves() {
		e, err := l.Entry()
		b.must(err)
		c.leaf(l, e)
	}
	for i, msg := range b.store.slots {
		if cp, err := custody.ParseCheckpoint(msg); err == nil && cp.Device == b.key.ID() {
			c.checkpoint(i, cp)
		}
	}
	return c
}

func (c *chain) leaf(l custody.Leaf, e custody.Entry) {
	t, index := c.b.t, c.tree.size
	t.Helper()
	root := c.tree.root(index)
	switch e := e.(type) {
	case *custody.Boot:
		if e.Boot != c.boot+1 || !ed25519.Verify(c.b.key.Public(), custody.BootMessage(c.b.key.ID(), e, index, root), e.Sig) {
			t.Errorf("leaf %d: boot %d after %d, or a wrong signature", index, e.Boot, c.boot)
		}
		c.boot, c.epoch, c.start, c.key = e.Boot, 0, e.T, e.Key
	case *custody.Epoch:
		if e.Boot != c.boot || e.Epoch != c.epoch+1 || !ed25519.Verify(c.key, custody.EpochMessage(c.b.key.ID(), e, index, root), e.Sig) {
			t.Errorf("leaf %d: epoch %d after %d, or a wrong signature", index, e.Epoch, c.epoch)
		}
		if e.T < c.last || e.T < c.start+e.Epoch*60e6 {
			t.Errorf("leaf %d: epoch %d at %d, before its time", index, e.Epoch, e.T)
		}
		c.epoch, c.key = e.Epoch, e.Key
	default:
		if e.Time() < c.last || (e.Time()-c.start)/60e6 != c.epoch {
			t.Errorf("leaf %d: %v at %d after %d, epoch %d", index, l.Kind, e.Time(), c.last, c.epoch)
		}
	}
	c.last = e.Time()
	c.tree.add(l)
	c.inForce = append(c.inForce, c.key)
}

func (c *chain) checkpoint(slot int, cp *custody.Checkpoint) {
	t := c.b.t
	t.Helper()
	if cp.Size > c.tree.size {
		t.Errorf("slot %d counts %d leaves of %d", slot, cp.Size, c.tree.size)
		return
	}
	if cp.Root != c.tree.root(cp.Size) || !cp.Key.Equal(c.inForce[cp.Size-1]) {
		t.Errorf("slot %d: root or key is not that of %d leaves", slot, cp.Size)
	}
	var bytes int64
	for _, l := range c.b.leaves()[:cp.Size] {
		bytes += l.Size()
	}
	f, err := custody.NewFrontier(cp.Size, cp.Frontier)
	if err != nil || f.Root() != cp.Root || bytes != cp.LogBytes {
		t.Errorf("slot %d: frontier or %d log bytes are not those of %d leaves (%v)", slot, cp.LogBytes, cp.Size, err)
	}
}
