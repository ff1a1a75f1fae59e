package custody_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
)

const (
	aSecond = int64(1e6)
	anEpoch = 60 * aSecond
	readMe  = "what README.txt must be\n"
	logName = "LOG/log.bin"
)

// built is a device's folder that is made leaf by leaf, by hand: each step of it can be wrong.
// Segments are random bytes, since verification needs no key.
type built struct {
	t      testing.TB
	files  fstest.MapFS
	random *rand.ChaCha8
	device *keys.DeviceKey
	id     string

	tree     custody.Frontier
	log      []byte
	offsets  []int64 // of each leaf
	boot     int64
	epoch    int64
	started  int64
	now      int64
	key      ed25519.PrivateKey
	next     int64
	live     []string
	deleting []string
	open     []custody.OpenFile
	segments map[string]int64 // by record and stream, the highest number
	slot     int
	last     *custody.Checkpoint
}

func build(t testing.TB) *built {
	b := &built{t: t, files: fstest.MapFS{}, random: rand.NewChaCha8([32]byte{1}), next: 1, segments: map[string]int64{}, now: 5 * aSecond}
	var err error
	b.device, err = keys.NewDeviceKey(b.random)
	b.check(err)
	b.id = b.device.ID()
	b.put("LOG/device.pub", []byte(b.device.Verifier()+"\n"))
	b.put("README.txt", []byte(readMe))
	return b
}

func (b *built) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *built) put(name string, data []byte) {
	b.files[name] = &fstest.MapFile{Data: data, Mode: 0o600}
}

func (b *built) bytes(n int) []byte {
	p := make([]byte, n)
	b.random.Read(p)
	return p
}

func digest(p []byte) []byte { h := sha256.Sum256(p); return h[:] }

// leaf appends a leaf as it is.
func (b *built) leaf(e custody.Entry) {
	b.t.Helper()
	l, err := custody.NewLeaf(e)
	b.check(err)
	b.raw(l)
}

func (b *built) raw(l custody.Leaf) {
	b.offsets = append(b.offsets, int64(len(b.log)))
	b.log = l.Append(b.log)
	b.tree.Add(l.Hash())
	b.put(logName, b.log)
}

func (b *built) newKey() ed25519.PublicKey {
	b.key = ed25519.NewKeyFromSeed(b.bytes(32))
	return b.key.Public().(ed25519.PublicKey)
}

// start begins a boot: leaf B, R of what is open, leaf L, and both checkpoints if they are new.
func (b *built) start() {
	b.t.Helper()
	b.startWith(custody.Boot{Boot: b.boot + 1, Slots: "good", Signed: 0, V: 1})
	for _, r := range slices.Clone(b.live) {
		b.recover(r)
	}
	b.lock()
	b.checkpoint()
	b.checkpoint()
}

func (b *built) startWith(e custody.Boot) {
	b.t.Helper()
	b.boot, b.epoch, b.started, e.T = e.Boot, 0, b.now, b.now
	e.Key = b.newKey()
	signer, err := b.device.Signer()
	b.check(err)
	e.Sig, err = signer.Sign(custody.BootMessage(b.id, &e, b.tree.Size(), b.tree.Root()))
	b.check(err)
	b.leaf(&e)
}

func (b *built) lock() {
	b.t.Helper()
	b.leaf(&custody.Lock{Grade: "none", Lock: "bench", T: b.tick(1000)})
}

// unlocked says that the lock is open for a ticket.
func (b *built) unlocked() {
	b.t.Helper()
	b.leaf(&custody.Lock{Grade: "none", Lock: "open", T: b.tick(1000), Ticket: strings.Repeat("0a", 16)})
}

// tick lets time pass and adds the leaves E that are due.
func (b *built) tick(usec int64) int64 {
	b.t.Helper()
	end := b.now + usec
	for (end-b.started)/anEpoch > b.epoch {
		b.now = b.started + (b.epoch+1)*anEpoch
		b.nextEpoch(b.epoch + 1)
	}
	b.now = end
	return end
}

func (b *built) nextEpoch(n int64) {
	b.t.Helper()
	old := b.key
	e := &custody.Epoch{Boot: b.boot, Epoch: n, T: b.now, Key: b.newKey()}
	e.Sig = ed25519.Sign(old, custody.EpochMessage(b.id, e, b.tree.Size(), b.tree.Root()))
	b.epoch = n
	b.leaf(e)
}

// begin starts a record: its folder and leaf K.
func (b *built) begin(kind byte) string {
	b.t.Helper()
	r := fmt.Sprintf("%c%08d", kind, b.next)
	b.keyLeaf(r)
	return r
}

// keyLeaf makes the keys of a record and its leaf K, with key groups of these names.
func (b *built) keyLeaf(r string, groups ...string) {
	b.t.Helper()
	wrapped, pub := b.bytes(300), fmt.Sprintf("age1pq1%x", b.bytes(20))
	b.put(r+"/flight.key.age", wrapped)
	b.put(r+"/flight.pub", []byte(pub+"\n"))
	k := &custody.FlightKey{Record: r, Files: []custody.KeyFile{{Name: "flight.key.age", Data: wrapped}}, Pub: pub, T: b.tick(1000),
		Policy: custody.Policy{FlushArmedUsec: 200_000, FlushIdleUsec: 900_000, Record: "always", WhenFull: "stop"}, Recipients: []string{strings.Repeat("ab", 16)}}
	for _, name := range groups {
		g := custody.KeyGroup{Streams: name, Pub: fmt.Sprintf("age1pq1%x", b.bytes(20)), Recipients: []string{strings.Repeat("cd", 16)}}
		for _, f := range []string{"flight." + name + ".key.age", "flight." + name + ".key.2.age"} {
			g.Files = append(g.Files, custody.KeyFile{Name: f, Data: b.bytes(300)})
			b.put(r+"/"+f, slices.Clone(g.Files[len(g.Files)-1].Data))
		}
		b.put(r+"/flight."+name+".pub", []byte(g.Pub+"\n"))
		k.Groups = append(k.Groups, g)
	}
	b.leaf(k)
	b.next++
	b.live = append(b.live, r)
}

// grouped writes a whole record with key groups.
func (b *built) grouped(groups ...string) string {
	b.t.Helper()
	r := fmt.Sprintf("F%08d", b.next)
	b.keyLeaf(r, groups...)
	b.close(r, b.segment(r, 70_000))
	b.end(r)
	b.checkpoint()
	return r
}

// segment begins a segment with n durable bytes: file and leaf O.
func (b *built) segment(r string, n int) string {
	b.t.Helper()
	s := b.nextSegment(r)
	b.put(r+"/"+s+".open.age", b.bytes(n))
	b.leaf(&custody.Opened{Record: r, Segment: s, T: b.tick(1000)})
	b.durable(r, s)
	return s
}

func (b *built) nextSegment(r string) string {
	b.segments[r]++
	return fmt.Sprintf("T%06d", b.segments[r])
}

// durable puts the whole open form into the open lines of the next checkpoint.
func (b *built) durable(r, s string) {
	name := s + ".open.age"
	b.open = slices.DeleteFunc(b.open, func(o custody.OpenFile) bool { return o.Record == r && o.Name == name })
	if f := b.files[r+"/"+name]; f != nil {
		b.open = append(b.open, custody.OpenFile{Record: r, Name: name, Bytes: int64(len(f.Data)), SHA256: digest(f.Data)})
	}
}

// grow adds bytes to an open form that no checkpoint names yet.
func (b *built) grow(r, s string, n int) {
	f := b.files[r+"/"+s+".open.age"]
	b.put(r+"/"+s+".open.age", append(slices.Clone(f.Data), b.bytes(n)...))
}

func (b *built) close(r, s string) {
	b.t.Helper()
	data := b.bytes(2000)
	delete(b.files, r+"/"+s+".open.age")
	b.put(r+"/"+s+".age", data)
	b.durable(r, s)
	b.leaf(&custody.Closed{Record: r, Segment: s, Size: int64(len(data)), SHA256: digest(data), From: 1, To: 2, Frames: 3, T: b.tick(1000)})
}

func (b *built) end(r string) {
	b.t.Helper()
	segments := map[string]int64{}
	if n := b.segments[r]; n > 0 {
		segments["T"] = n
	}
	b.leaf(&custody.Ended{Record: r, Segments: segments, T: b.tick(1000)})
	b.dead(r)
}

func (b *built) dead(r string) {
	b.live = slices.DeleteFunc(b.live, func(s string) bool { return s == r })
	b.open = slices.DeleteFunc(b.open, func(o custody.OpenFile) bool { return o.Record == r })
}

// recover writes leaf R of what is there.
func (b *built) recover(r string) {
	b.t.Helper()
	files := []custody.File{}
	for name, f := range b.files {
		if s, ok := strings.CutPrefix(name, r+"/T"); ok && strings.HasSuffix(s, ".open.age") {
			files = append(files, b.signedAs(r, custody.File{Name: "T" + s, Size: int64(len(f.Data)), SHA256: digest(f.Data)}))
		}
	}
	for _, o := range b.open {
		if o.Record == r && b.files[r+"/"+o.Name] == nil {
			files = append(files, b.signedAs(r, custody.File{Name: o.Name, SHA256: digest(nil)}))
		}
	}
	slices.SortFunc(files, func(a, b custody.File) int { return strings.Compare(a.Name, b.Name) })
	b.leaf(&custody.Recovered{Record: r, Files: files, T: b.tick(1000)})
	b.dead(r)
}

// signedAs puts into f what the newest checkpoint says of it.
func (b *built) signedAs(r string, f custody.File) custody.File {
	for _, o := range b.open {
		if o.Record == r && o.Name == f.Name {
			f.SignedSize, f.SignedSHA256 = &o.Bytes, o.SHA256
		}
	}
	return f
}

func (b *built) lost(why, r, s string) {
	b.t.Helper()
	e := &custody.Lost{Record: r, Segment: s, Why: why, T: b.tick(1000)}
	if f := b.files[r+"/"+s+".open.age"]; why == "failed" {
		n := int64(len(f.Data))
		e.Size, e.SHA256 = &n, digest(f.Data)
	}
	b.leaf(e)
}

func (b *built) drop(r string) {
	maps.DeleteFunc(b.files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, r+"/") })
}

// checkpoint signs what is there into the older slot.
func (b *built) checkpoint(change ...func(*custody.Checkpoint)) {
	b.t.Helper()
	c := &custody.Checkpoint{Device: b.id, Size: b.tree.Size(), Root: b.tree.Root(), Boot: b.boot, Epoch: b.epoch, T: b.now,
		Key: b.key.Public().(ed25519.PublicKey), LogBytes: int64(len(b.log)), Next: b.next, Live: slices.Clone(b.live), Deleting: b.deleting,
		Frontier: b.tree.Hashes(), Open: slices.Clone(b.open)}
	for _, f := range change {
		f(c)
	}
	b.last = c
	b.put([]string{"LOG/cp.A", "LOG/cp.B"}[b.slot], b.sign(c))
	b.slot = 1 - b.slot
}

func (b *built) sign(c *custody.Checkpoint) []byte {
	b.t.Helper()
	raw := append([]byte{1}, b.key.Seed()...)
	line, err := note.NewEd25519VerifierKey(custody.Origin(c.Device), b.key.Public().(ed25519.PublicKey))
	b.check(err)
	hash := strings.Split(line, "+")[1]
	s, err := note.NewSigner("PRIVATE+KEY+" + custody.Origin(c.Device) + "+" + hash + "+" + b64(raw))
	b.check(err)
	msg, err := c.Sign(s)
	b.check(err)
	return msg
}

// record writes a whole record of n segments, in order.
func (b *built) record(kind byte, n int) string {
	b.t.Helper()
	r := b.begin(kind)
	for range n {
		b.close(r, b.segment(r, 70_000))
	}
	b.end(r)
	b.checkpoint()
	return r
}

// verify pins the device's key.
func (b *built) verify(change ...func(*custody.Options)) *custody.Report {
	b.t.Helper()
	return verify(b.t, b.files, append([]func(*custody.Options){func(o *custody.Options) {
		o.Device, o.DeviceKey, o.Readme = b.id, b.device.Verifier(), []byte(readMe)
	}}, change...)...)
}

func verify(t testing.TB, fsys fs.FS, change ...func(*custody.Options)) *custody.Report {
	t.Helper()
	o := custody.Options{}
	for _, f := range change {
		f(&o)
	}
	r, err := custody.Verify(fsys, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// said lists all that a report finds, in one row: state, rule, place and text.
func said(r *custody.Report) (all []custody.Finding) {
	all = append(all, r.Findings...)
	for _, rec := range r.Records {
		all = append(all, rec.Findings...)
		for _, s := range rec.Segments {
			if s.State != custody.VerdictClean {
				all = append(all, custody.Finding{State: s.State, Rule: s.Rule, File: rec.Record + "/" + s.File, Leaf: s.Leaf, Byte: s.Byte, Text: s.Why})
			}
		}
	}
	return all
}
