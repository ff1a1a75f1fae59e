package custody_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
)

// flown is a board after a flight with two checkpoints, of which slot B is the newest, and two
// leaves that no checkpoint counts.
func flown(t testing.TB) *board {
	b := newBoard(t)
	l := b.start()
	b.must(l.Add(lockLeaf()), l.Checkpoint(nil)) // A: 2 leaves
	b.must(l.Add(keyLeaf("F00000001")), l.Add(openLeaf("F00000001", "T000001")), l.Checkpoint(nil))
	b.must(l.Add(closeLeaf("F00000001", "T000001")), l.Add(openLeaf("F00000001", "T000002")), l.Sync())
	b.store.calls = nil
	return b
}

func TestLoadEmpty(t *testing.T) {
	st, err := custody.Load("0a1b2c3d", [2][]byte{}, 0, func(int64) (io.Reader, error) {
		t.Error("an empty log was opened")
		return nil, errMedium
	})
	if err != nil {
		t.Fatal(err)
	}
	if st.Frontier.Size() != 0 || st.Bytes != 0 || st.Torn != 0 || st.Boot != 0 || st.Next != 1 || st.Slots != custody.SlotsNone || st.Newest != nil || st.Lost {
		t.Errorf("%+v", st)
	}
}

// TestLoadGoesOn wants nothing read that the newest checkpoint counts.
func TestLoadGoesOn(t *testing.T) {
	b := flown(t)
	st := b.load()
	if st.Frontier.Size() != 6 || st.Bytes != int64(len(b.store.log)) || st.Torn != 0 || st.Boot != 1 || st.Next != 2 {
		t.Errorf("%+v", st)
	}
	if !slices.Equal(st.Live, []string{"F00000001"}) || st.Slots != custody.SlotsGood || st.Signed != 4 || st.Newest.Size != 4 {
		t.Errorf("%+v", st)
	}
	if want := st.Bytes - st.Newest.LogBytes; b.read != want {
		t.Errorf("%d bytes of the log were read, want %d", b.read, want)
	}
	all := naiveTree{t: t}
	for _, l := range b.leaves() {
		all.add(l)
	}
	if st.Frontier.Root() != all.root(6) {
		t.Error("the root is not that of all leaves")
	}
}

// TestLoadTail cuts, zeroes and spoils what stands behind the checkpoint, and what stands behind
// the last leaf.
func TestLoadTail(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(log []byte, last int) []byte // last: where the last leaf begins
		leaves int64
		torn   int64 // -1: the length of the last leaf
	}{
		{"whole", func(log []byte, _ int) []byte { return log }, 6, 0},
		{"last leaf cut", func(log []byte, _ int) []byte { return log[:len(log)-1] }, 5, -2},
		{"last leaf's head cut", func(log []byte, last int) []byte { return log[:last+3] }, 5, 3},
		{"last leaf zeroed", func(log []byte, last int) []byte { clear(log[last:]); return log }, 5, -1},
		{"half of the last leaf zeroed", func(log []byte, last int) []byte { clear(log[last+30:]); return log }, 5, -1},
		{"zeros behind", func(log []byte, _ int) []byte { return append(log, make([]byte, 4096)...) }, 6, 4096},
		{"a bit flipped in the last leaf", func(log []byte, last int) []byte { log[last+9] ^= 4; return log }, 5, -1},
		{"a leaf of an unknown kind behind", func(log []byte, _ int) []byte {
			return custody.Leaf{Kind: 'Q', Body: []byte(`{"t":1}`)}.Append(log)
		}, 6, 16},
		{"a leaf that is not canonical behind", func(log []byte, _ int) []byte {
			return custody.Leaf{Kind: 'O', Body: []byte(`{"t":1}`)}.Append(log)
		}, 6, 16},
		{"a zero byte, then good leaves", func(log []byte, last int) []byte {
			return slices.Concat(log[:last], []byte{0}, log[last:])
		}, 5, -3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := flown(t)
			leaves := b.leaves()
			size := leaves[len(leaves)-1].Size()
			b.store.log = tt.change(b.store.log, len(b.store.log)-int(size))
			want := tt.torn
			switch want {
			case -1:
				want = size
			case -2:
				want = size - 1
			case -3:
				want = size + 1
			}
			st := b.load()
			if st.Frontier.Size() != tt.leaves || st.Torn != want || st.Bytes+st.Torn != int64(len(b.store.log)) || st.Lost {
				t.Errorf("%d leaves, torn %d, want %d and %d (%d good of %d)", st.Frontier.Size(), st.Torn, tt.leaves, want, st.Bytes, len(b.store.log))
			}
			l := b.start()
			b.must(l.Checkpoint(nil))
			boot, err := b.leaves()[tt.leaves].Entry()
			b.must(err)
			if e := boot.(*custody.Boot); e.Torn != want || e.Signed != 4 || e.Slots != custody.SlotsGood || e.Boot != 2 {
				t.Errorf("leaf B says %+v", e)
			}
			checkChain(b)
		})
	}
}

// anotherBoard is a board of another device that did the same.
func anotherBoard(t testing.TB) *board {
	b := flown(t)
	other := newBoard(t)
	key, err := newDeviceKey(8)
	if err != nil {
		t.Fatal(err)
	}
	other.key, other.clock = key, b.clock
	l := other.start()
	other.must(l.Add(lockLeaf()), l.Checkpoint(nil), l.Checkpoint(nil))
	return other
}

// TestLoadSlots spoils the slots in each way. Slot A counts 2 leaves, slot B 4, the log has 6.
func TestLoadSlots(t *testing.T) {
	foreign := anotherBoard(t).store.slots
	zeros := make([]byte, 512)
	spoil := func(at int) func(p []byte) []byte {
		return func(p []byte) []byte { p = bytes.Clone(p); p[at] ^= 1; return p }
	}
	keep := func(p []byte) []byte { return p }
	gone := func([]byte) []byte { return nil }
	put := func(q []byte) func([]byte) []byte { return func([]byte) []byte { return q } }
	for _, tt := range []struct {
		name   string
		a, b   func([]byte) []byte
		slots  string
		signed int64
	}{
		{"both good", keep, keep, custody.SlotsGood, 4},
		{"A gone", gone, keep, custody.SlotsTorn, 4},
		{"A zeroed", put(zeros), keep, custody.SlotsTorn, 4},
		{"A empty", put([]byte{}), keep, custody.SlotsTorn, 4},
		{"B gone: older slot, newer log", keep, gone, custody.SlotsTorn, 2},
		{"B cut", keep, func(p []byte) []byte { return p[:300] }, custody.SlotsTorn, 2},
		{"B half zeroed", keep, func(p []byte) []byte { return append(p[:256:256], make([]byte, len(p)-256)...) }, custody.SlotsTorn, 2},
		{"B flipped in its text", keep, spoil(20), custody.SlotsTorn, 2},
		{"B longer than a slot", keep, put(make([]byte, 70<<10)), custody.SlotsTorn, 2},
		{"B of another device", keep, put(foreign[1]), custody.SlotsTorn, 2},
		{"A of another device", put(foreign[0]), keep, custody.SlotsTorn, 4},
		{"both gone", gone, gone, custody.SlotsBad, 0},
		{"both zeroed", put(zeros), put(zeros), custody.SlotsBad, 0},
		{"both of another device", put(foreign[0]), put(foreign[1]), custody.SlotsBad, 0},
		{"both flipped", spoil(30), spoil(200), custody.SlotsBad, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := flown(t)
			b.store.slots = [2][]byte{tt.a(b.store.slots[0]), tt.b(b.store.slots[1])}
			st := b.load()
			if st.Slots != tt.slots || st.Signed != tt.signed || st.Lost || (st.Newest == nil) != (tt.signed == 0) {
				t.Errorf("slots %s, signed %d, lost %v", st.Slots, st.Signed, st.Lost)
			}
			if st.Frontier.Size() != 6 || st.Bytes != int64(len(b.store.log)) || st.Next != 2 || !slices.Equal(st.Live, []string{"F00000001"}) || st.Boot != 1 {
				t.Errorf("%+v", st)
			}
			if tt.signed == 0 && b.read != int64(len(b.store.log)) {
				t.Errorf("%d bytes were read of %d", b.read, len(b.store.log))
			}
			good := bytes.Clone(b.store.slots[0])
			l := b.start()
			b.must(l.Checkpoint(nil))
			if tt.signed == 2 && !bytes.Equal(b.store.slots[0], good) {
				t.Error("the only good slot was written")
			}
			checkChain(b)
			if again := b.load(); again.Signed != 7 || again.Lost {
				t.Errorf("after the checkpoint: signed %d, lost %v", again.Signed, again.Lost)
			}
		})
	}
}

// TestLoadFirstCheckpointCut wants no accusation where power went during the first checkpoint.
func TestLoadFirstCheckpointCut(t *testing.T) {
	b := newBoard(t)
	l := b.start()
	b.must(l.Add(lockLeaf()))
	b.store.fail[slotOps[0]] = 1
	b.tolerate(l.Checkpoint(nil))
	b.store.cut()
	if st := b.load(); st.Slots != custody.SlotsNone || st.Frontier.Size() != 2 {
		t.Errorf("slots %s, %d leaves", st.Slots, st.Frontier.Size())
	}
}

// TestLoadShorterThanCheckpoint wants the loss seen, the numbers of records not used again,
// and no checkpoint left that counts what is lost.
func TestLoadShorterThanCheckpoint(t *testing.T) {
	for _, tt := range []struct {
		name string
		keep int // leaves
		more int // bytes of the next
	}{{"nothing left", 0, 0}, {"one leaf left", 1, 0}, {"older checkpoint whole", 2, 0}, {"cut in a leaf", 3, 20}, {"cut in the last counted leaf", 3, 50}} {
		t.Run(tt.name, func(t *testing.T) {
			b := flown(t)
			var size int64
			for _, l := range b.leaves()[:tt.keep] {
				size += l.Size()
			}
			b.store.log = b.store.log[:size+int64(tt.more)]
			st := b.load()
			if !st.Lost || st.Frontier.Size() != int64(tt.keep) || st.Bytes != size || st.Torn != int64(tt.more) || st.Signed != 4 || st.Slots != custody.SlotsGood || st.Next != 2 {
				t.Errorf("%+v", st)
			}
			l := b.start()
			b.must(l.Add(lockLeaf()))
			b.store.calls = nil
			// Power may go, or the medium fail, between the two slots.
			b.store.fail[slotOps[1]] = 1
			b.tolerate(l.Checkpoint(nil))
			b.must(l.Checkpoint(nil))
			for i := range 2 {
				if got := b.checkpoint(i).Size; got > int64(tt.keep)+2 {
					t.Errorf("slot %d still counts %d leaves", i, got)
				}
			}
			b.store.calls = nil
			b.must(l.Checkpoint(nil))
			if len(b.store.calls) != 1 {
				t.Errorf("calls once both slots are right: %v", b.store.calls)
			}
			if again := b.load(); again.Lost || again.Frontier.Size() != int64(tt.keep)+2 {
				t.Errorf("the next start: lost %v, %d leaves", again.Lost, again.Frontier.Size())
			}
		})
	}
}

// TestLoadBothSlotsAhead is a medium whose log was put back behind both checkpoints.
func TestLoadBothSlotsAhead(t *testing.T) {
	b := flown(t)
	b.store.log = b.store.log[:b.leaves()[0].Size()]
	l := b.start()
	b.must(l.Checkpoint(nil))
	if b.checkpoint(0).Size != 2 || b.checkpoint(1).Size != 2 {
		t.Errorf("slots count %d and %d leaves", b.checkpoint(0).Size, b.checkpoint(1).Size)
	}
	checkChain(b)
}

// TestLoadNewest wants the order of the format: leaves, boot, time.
func TestLoadNewest(t *testing.T) {
	b := flown(t)
	sign := b.anyKey()
	for name, newer := range map[string]func(c *custody.Checkpoint){
		"leaves": func(c *custody.Checkpoint) { c.Boot, c.T = 1, 1 },
		"boot": func(c *custody.Checkpoint) {
			c.Size, c.Root, c.Frontier, c.Boot, c.T = 2, b.checkpoint(0).Root, b.checkpoint(0).Frontier, 4, 1
		},
		"time": func(c *custody.Checkpoint) {
			c.Size, c.Root, c.Frontier, c.T = 2, b.checkpoint(0).Root, b.checkpoint(0).Frontier, 101
		},
	} {
		old, fresh := *b.checkpoint(0), *b.checkpoint(1)
		old.Boot, old.T = 3, 100
		fresh.Boot = 3
		newer(&fresh)
		o, f := sign(&old), sign(&fresh)
		for slot, slots := range [2][2][]byte{{f, o}, {o, f}} {
			st, err := custody.Load(b.key.ID(), slots, int64(len(b.store.log)), func(at int64) (io.Reader, error) {
				return bytes.NewReader(b.store.log[at:]), nil
			})
			b.must(err)
			if st.Newest.Boot != fresh.Boot || st.Newest.T != fresh.T || st.Signed != fresh.Size {
				t.Errorf("%s, newest in slot %d: taken was boot %d, time %d", name, slot, st.Newest.Boot, st.Newest.T)
			}
		}
	}
}

// anyKey returns a function that signs checkpoints of b's device by a key of nobody. Load cannot
// know it.
func (b *board) anyKey() func(*custody.Checkpoint) []byte {
	b.t.Helper()
	skey, _, err := note.GenerateKey(b.rand, custody.Origin(b.key.ID()))
	b.must(err)
	signer, err := note.NewSigner(skey)
	b.must(err)
	return func(c *custody.Checkpoint) []byte {
		b.t.Helper()
		c.Key = publicOf(b.t, skey)
		msg, err := c.Sign(signer)
		b.must(err)
		return msg
	}
}

// TestLoadWrongNumbers signs checkpoints whose form is right and whose numbers cannot be. Load
// must not fall over any of them.
func TestLoadWrongNumbers(t *testing.T) {
	b := flown(t)
	sign := b.anyKey()
	good := b.checkpoint(1)
	for name, change := range map[string]func(c *custody.Checkpoint){
		"no leaves":               func(c *custody.Checkpoint) { c.Size, c.Frontier = 0, nil },
		"frontier too short":      func(c *custody.Checkpoint) { c.Size = 5 },
		"frontier of another":     func(c *custody.Checkpoint) { c.Frontier[0][3] ^= 1 },
		"root of another":         func(c *custody.Checkpoint) { c.Root[0] ^= 1 },
		"boot 0":                  func(c *custody.Checkpoint) { c.Boot = 0 },
		"next 0":                  func(c *custody.Checkpoint) { c.Next = 0 },
		"fewer bytes than leaves": func(c *custody.Checkpoint) { c.LogBytes = 43 },
	} {
		c := *good
		c.Frontier = slices.Clone(good.Frontier)
		change(&c)
		b.store.slots = [2][]byte{sign(&c), nil}
		if st := b.load(); st.Newest != nil || st.Slots != custody.SlotsBad || st.Frontier.Size() != 6 {
			t.Errorf("%s: slots %s, %+v", name, st.Slots, st.Newest)
		}
	}
}

func TestLoadMediumFails(t *testing.T) {
	b := flown(t)
	for name, open := range map[string]func(int64) (io.Reader, error){
		"open": func(int64) (io.Reader, error) { return nil, errMedium },
		"read": func(int64) (io.Reader, error) { return iotest.ErrReader(errMedium), nil },
		"later reads": func(at int64) (io.Reader, error) {
			return io.MultiReader(bytes.NewReader(b.store.log[at:at+20]), iotest.ErrReader(errMedium)), nil
		},
	} {
		if st, err := custody.Load(b.key.ID(), b.store.slots, int64(len(b.store.log)), open); !errors.Is(err, errMedium) || st != nil {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
}

// TestLoadFileShrinks reads a file that is shorter, or longer, than its size said.
func TestLoadFileShrinks(t *testing.T) {
	b := flown(t)
	size := int64(len(b.store.log))
	for _, d := range []int64{100, -1} {
		st, err := custody.Load(b.key.ID(), b.store.slots, size+d, func(at int64) (io.Reader, error) {
			return bytes.NewReader(b.store.log[at:]), nil
		})
		b.must(err)
		if st.Bytes > size || st.Bytes+st.Torn != size+d {
			t.Errorf("size %d: %d good, %d torn", size+d, st.Bytes, st.Torn)
		}
	}
}

// TestLoadRandomDamage flips, cuts and zeroes at random places. No panic, and no more good
// bytes than there are.
func TestLoadRandomDamage(t *testing.T) {
	good := flown(t)
	r := rand.New(rand.NewPCG(5, 6))
	damage := func(p []byte) []byte {
		p = bytes.Clone(p)
		at := r.IntN(len(p))
		switch r.IntN(4) {
		case 0:
			p[at] ^= 1 << r.IntN(8)
		case 1:
			p = p[:at]
		case 2:
			clear(p[at:])
		}
		return p
	}
	for range 200 {
		b := newBoard(t)
		b.store.log = damage(good.store.log)
		b.store.slots = [2][]byte{damage(good.store.slots[0]), damage(good.store.slots[1])}
		st := b.load()
		if st.Bytes < 0 || st.Bytes+st.Torn != int64(len(b.store.log)) || st.Next < 1 {
			t.Fatalf("%+v", st)
		}
		l := b.start()
		b.must(l.Checkpoint(nil))
	}
}
