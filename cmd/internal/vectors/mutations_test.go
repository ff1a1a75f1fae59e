package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/crypto/custody"
)

// mutate changes a vault at random as a hand or a medium could, and says how.
func mutate(r *rand.Rand, tree, other map[string][]byte) string {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(tree)) {
		if !strings.HasSuffix(n, "/") {
			names = append(names, n)
		}
	}
	a, b := names[r.IntN(len(names))], names[r.IntN(len(names))]
	p := bytes.Clone(tree[a])
	at := 0
	if len(p) > 0 {
		at = r.IntN(len(p))
	}
	how := ""
	switch kind := r.IntN(9); {
	case kind <= 1 && len(p) > 0:
		how = "bit " + strconv.Itoa(at) + " of " + a
		p[at] ^= 1 << r.IntN(8)
		tree[a] = p
	case kind == 2 && len(p) > 0:
		how, tree[a] = "cut "+a+" at "+strconv.Itoa(at), p[:at]
	case kind == 3 && len(p) > 0:
		how = "zeros from " + strconv.Itoa(at) + " in " + a
		clear(p[at:])
		tree[a] = p
	case kind == 4:
		how, tree[a] = "bytes behind "+a, append(p, p[:at]...)
	case kind == 5:
		how = "gone " + a
		delete(tree, a)
	case kind == 6:
		how = "swap " + a + " " + b
		tree[a], tree[b] = tree[b], tree[a]
	case kind == 7 && other[a] != nil:
		how, tree[a] = "of another vault "+a, other[a]
	default:
		renamed := rename(r, a)
		how, tree[renamed] = "copy "+a+" to "+renamed, p
	}
	return how
}

// rename gives a file the name of another one that there may be.
func rename(r *rand.Rand, name string) string {
	forms := []string{"T000001.age", "T000002.age", "T000002.open.age", "T000003.open.age", "T000003.age.tmp", "flight.key.2.age", "flight.V.key.age", "flight.PV.pub"}
	dir := name[:8] + "/" + []string{"F00000001", "F00000002", "G00000002", "F00000003"}[r.IntN(4)] + "/"
	return dir + forms[r.IntN(len(forms))]
}

// TestMutations: on vaults that were changed at random, both readers say the same.
func TestMutations(t *testing.T) {
	rs := readers(t)
	if len(rs) < 2 {
		t.Skip("one reader has nothing to agree with")
	}
	rounds := 80
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_MUTATIONS")); err == nil {
		rounds = n
	}
	var all []*Vector
	forEachVector(t, func(t *testing.T, v *Vector) {
		if size(v) < 200<<10 {
			all = append(all, v)
		}
	})
	r := rand.New(rand.NewPCG(3, 14))
	for round := range rounds {
		v := *all[r.IntN(len(all))]
		v.Tree = maps.Clone(v.Tree)
		how := []string{v.Comment[0]}
		for range 1 + r.IntN(2) {
			how = append(how, mutate(r, v.Tree, all[r.IntN(len(all))].Tree))
		}
		dir := filepath.Join(t.TempDir(), strconv.Itoa(round))
		vault, flags, _ := v.unpackTo(t, dir)
		ours := inProcess(t, vault, &v)
		theirs, code := rs[1].verify(t, append([]string{vault}, flags...)...)
		if a, b := ours.summary(), theirs.summary(); a != b {
			t.Errorf("%d: %q:\nours   %s %v\nsecond %s %v (exit code %d)", round, how, a, ours.rules(), b, theirs.rules(), code)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func size(v *Vector) (n int) {
	for _, p := range v.Tree {
		n += len(p)
	}
	return n
}

// inProcess is holdfast verify without its program.
func inProcess(t *testing.T, vault string, v *Vector) *verdict {
	t.Helper()
	devices, err := os.ReadDir(vault)
	if err != nil || len(devices) != 1 {
		t.Fatalf("%d devices: %v", len(devices), err)
	}
	id := devices[0].Name()
	rep, err := custody.Verify(os.DirFS(filepath.Join(vault, id)), custody.Options{Device: id, DeviceKey: v.PinnedKey, Head: v.Head, Readme: readmeText()})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"state": rep.State, "devices": []any{rep}})
	if err != nil {
		t.Fatal(err)
	}
	got := &verdict{}
	if err := json.Unmarshal(text, got); err != nil {
		t.Fatal(err)
	}
	return got
}
