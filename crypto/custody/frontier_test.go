package custody_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"holdfast/crypto/custody"
)

func someLeaf(i int64) custody.Leaf {
	return custody.Leaf{Kind: custody.KindLock, Body: fmt.Appendf(nil, `{"n":%d}`, i)}
}

// TestFrontierAgainstTlog grows a tree and compares each of its roots.
func TestFrontierAgainstTlog(t *testing.T) {
	const size = 600
	var f custody.Frontier
	n := &naiveTree{t: t}
	if f.Root() != sha256.Sum256(nil) {
		t.Error("root of no leaves is not the hash of nothing")
	}
	for i := range int64(size) {
		f.Add(someLeaf(i).Hash())
		n.add(someLeaf(i))
		if f.Size() != i+1 || f.Root() != n.root(i+1) {
			t.Fatalf("%d leaves: root %v, want %v", i+1, f.Root(), n.root(i+1))
		}
	}
}

// TestFrontierGoesOn breaks off random trees at random sizes and goes on from the hashes; tlog
// proves that the tree that results holds the one before.
func TestFrontierGoesOn(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		size := 2 + r.Int64N(500)
		at := 1 + r.Int64N(size-1)
		n, f := &naiveTree{t: t}, new(custody.Frontier)
		for i := range at {
			n.add(someLeaf(i))
			f.Add(someLeaf(i).Hash())
		}
		g, err := custody.NewFrontier(at, f.Hashes())
		if err != nil {
			t.Fatal(err)
		}
		for i := at; i < size; i++ {
			n.add(someLeaf(i))
			g.Add(someLeaf(i).Hash())
		}
		proof, err := tlog.ProveTree(size, at, n)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(proof, size, g.Root(), at, f.Root()); err != nil {
			t.Errorf("%d of %d leaves: %v", at, size, err)
		}
		if g.Root() == f.Root() || f.Size() != at {
			t.Errorf("%d of %d leaves: the frontier that was copied has changed", at, size)
		}
	}
}

func TestNewFrontierRefuses(t *testing.T) {
	for _, tt := range []struct {
		size   int64
		hashes int
	}{{-1, 1}, {-1, 64}, {0, 1}, {1, 0}, {1, 2}, {3, 1}, {4, 2}, {1<<53 - 1, 52}} {
		if _, err := custody.NewFrontier(tt.size, make([]tlog.Hash, tt.hashes)); err == nil {
			t.Errorf("%d leaves with %d hashes: accepted", tt.size, tt.hashes)
		}
	}
}

// TestFrontierHashesAreCopied guards a checkpoint against the leaves that follow.
func TestFrontierHashesAreCopied(t *testing.T) {
	var f custody.Frontier
	f.Add(someLeaf(1).Hash())
	hs := f.Hashes()
	want := slices.Clone(hs)
	f.Add(someLeaf(2).Hash())
	if !slices.Equal(hs, want) {
		t.Error("hashes handed out have changed")
	}
}
