package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/crypto/seal"
	"holdfast/storage/segment"
)

const (
	second = int64(1e6) // microseconds
	epoch  = 60 * second
	salt   = "0123456789abcdef"
)

// board writes the folder of a device step by step, so that a scenario can leave out, repeat or
// change each step and still sign what it did. It panics on errors: it runs on its own input.
type board struct {
	id     string
	pub    string // verifier line with its line feed
	device ed25519.PrivateKey
	rand   *rand.ChaCha8
	files  map[string][]byte

	// edit, where set, changes a leaf before it is signed and written; nil drops it.
	edit func(custody.Entry) custody.Entry
	// editSigned changes what is signed already; editCP a checkpoint before it is signed.
	editSigned func(custody.Entry)
	editCP     func(*custody.Checkpoint)

	tree           custody.Frontier
	log            []byte
	signer         ed25519.PrivateKey
	boots, epoch   int64
	t, began       int64
	next           int64
	live, deleting []string
	slot           int
	signed         int64 // leaves that the last checkpoint counted
	cp             *custody.Checkpoint

	rec      string
	to       age.Recipient
	grouped  []keys.Group           // of the records to come
	groupTo  map[byte]age.Recipient // by stream, of the record
	media    map[byte]int64         // segments by stream
	pubLine  string
	flightOf map[string]*keys.FlightKey
	block    uint64
	segments int64
	opened   []custody.OpenFile
	encoded  map[string][]byte // content of open segments by path
	growing  map[string]*openFile
	link     int64 // bytes received
	enc      *segment.Encoder
	seq      byte
	Frames   [][]byte // all that were recorded, in order

	audits     int64 // segments of stream X
	auditBlock uint64
	Lines      [][]byte // all of it, in order

	others map[byte]int64 // segments of A, V and P
	blocks map[byte]uint64
	Pieces []piece  // of streams A, V and P that are on the medium
	Sent   [][]byte // what went to the autopilot, as it stands there
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newBoard is a board with a key of its own and empty folders.
func newBoard(seed byte) *board {
	b := &board{rand: rand.NewChaCha8([32]byte{seed}), files: map[string][]byte{}, next: 1, encoded: map[string][]byte{},
		flightOf: map[string]*keys.FlightKey{}, growing: map[string]*openFile{}, enc: must(segment.NewEncoder())}
	b.device = b.newKey()
	public := b.device.Public().(ed25519.PublicKey)
	h := sha256.Sum256(public)
	b.id = hex.EncodeToString(h[:4])
	b.pub = must(note.NewEd25519VerifierKey(custody.Origin(b.id), public)) + "\n"
	b.files["LOG/device.pub"] = []byte(b.pub)
	b.files["README.txt"] = readmeText()
	return b
}

func (b *board) newKey() ed25519.PrivateKey {
	var seed [ed25519.SeedSize]byte
	b.rand.Read(seed[:])
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }

// boot starts the recorder at a time since the kernel started.
func (b *board) boot(t int64, slots string, torn int64) {
	b.boots, b.epoch, b.t, b.began = b.boots+1, 0, t, t
	key := b.newKey()
	b.sign(&custody.Boot{Boot: b.boots, Key: public(key), Signed: b.signed, Slots: slots, T: t, Torn: torn, V: custody.Version}, key)
}

// sign adds a leaf B or E, by which key takes over.
func (b *board) sign(e custody.Entry, key ed25519.PrivateKey) {
	if b.edit != nil {
		if e = b.edit(e); e == nil {
			return
		}
	}
	switch e := e.(type) {
	case *custody.Boot:
		e.Sig = ed25519.Sign(b.device, custody.BootMessage(b.id, e, b.tree.Size(), b.tree.Root()))
	case *custody.Epoch:
		e.Sig = ed25519.Sign(b.signer, custody.EpochMessage(b.id, e, b.tree.Size(), b.tree.Root()))
	}
	if b.editSigned != nil {
		b.editSigned(e)
	}
	b.signer = key
	b.append(e)
}

func (b *board) add(e custody.Entry) {
	if b.edit != nil {
		if e = b.edit(e); e == nil {
			return
		}
	}
	b.append(e)
}

func (b *board) append(e custody.Entry) { b.leaf(must(custody.NewLeaf(e))) }

func (b *board) leaf(l custody.Leaf) {
	b.log = l.Append(b.log)
	b.tree.Add(l.Hash())
	b.files["LOG/log.bin"] = b.log
}

// pass lets time go by, with a leaf E for each epoch that begins.
func (b *board) pass(d int64) {
	to := b.t + d
	for b.began+(b.epoch+1)*epoch <= to {
		b.epoch++
		b.t = b.began + b.epoch*epoch
		key := b.newKey()
		b.sign(&custody.Epoch{Boot: b.boots, Epoch: b.epoch, Key: public(key), T: b.t}, key)
	}
	b.t = to
}

func (b *board) lock() { b.add(&custody.Lock{Grade: "none", Lock: "bench", T: b.t}) }

// start is a whole start of the recorder.
func (b *board) start(slots string) {
	b.boot(b.t+3*second, slots, 0)
	b.lock()
	b.checkpoint()
}

// checkpoint signs all leaves into the next slot.
func (b *board) checkpoint() {
	c := &custody.Checkpoint{Device: b.id, Size: b.tree.Size(), Root: b.tree.Root(), Boot: b.boots, Epoch: b.epoch, T: b.t,
		Key: public(b.signer), LogBytes: int64(len(b.log)), Next: b.next, Live: b.live, Deleting: b.deleting,
		Frontier: b.tree.Hashes(), Open: slices.Clone(b.opened)}
	if b.editCP != nil {
		b.editCP(c)
	}
	b.signed, b.cp = c.Size, c
	b.files["LOG/cp."+string(rune('A'+b.slot))] = b.signCP(c, b.signer)
	b.slot = 1 - b.slot
}

// signCP signs with a key of the device's name.
func (b *board) signCP(c *custody.Checkpoint, key ed25519.PrivateKey) []byte {
	return must(c.Sign(noteSigner{custody.Origin(b.id), key}))
}

// noteSigner signs notes with a raw key.
type noteSigner struct {
	name string
	key  ed25519.PrivateKey
}

func (s noteSigner) Name() string { return s.name }

func (s noteSigner) KeyHash() uint32 {
	h := sha256.Sum256(append([]byte(s.name+"\n\x01"), public(s.key)...))
	return binary.BigEndian.Uint32(h[:])
}

func (s noteSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// folder makes the folder of the next record with its key, as it stands before leaf K.
func (b *board) folder(kind byte, recipients string) *keys.FlightKey {
	b.rec = fmt.Sprintf("%c%08d", kind, b.next)
	k := must(keys.NewFlightKey(must(keys.ParseRecipients(strings.NewReader(recipients))), b.grouped...))
	for _, f := range k.Files {
		b.files[b.rec+"/"+f.Name] = f.Data
	}
	b.files[b.rec+"/flight.pub"] = []byte(k.Public + "\n")
	b.groupFiles(k)
	b.to, b.pubLine = must(age.ParseHybridRecipient(k.Public)), k.Public
	b.flightOf[b.rec] = k
	b.block, b.segments, b.audits, b.auditBlock = 0, 0, 0, 0
	b.others, b.blocks = map[byte]int64{}, map[byte]uint64{}
	return k
}

// begin starts a record for recipients, lines of a recipients.txt.
func (b *board) begin(kind byte, recipients string) string {
	k := b.folder(kind, recipients)
	leaf := &custody.FlightKey{Pub: k.Public, Record: b.rec, T: b.t,
		Policy: custody.Policy{FlushArmedUsec: 200_000, FlushIdleUsec: 900_000, Record: "always", WhenFull: "stop"}}
	for _, f := range k.Files {
		leaf.Files = append(leaf.Files, custody.KeyFile{Name: f.Name, Data: f.Data})
	}
	for line := range strings.Lines(recipients) {
		leaf.Recipients = append(leaf.Recipients, custody.Fingerprint([]byte(salt), strings.TrimSpace(line)))
	}
	leaf.Groups = b.groupLeaf(k)
	b.next++
	b.live = append(b.live, b.rec)
	b.add(leaf)
	b.checkpoint()
	return b.rec
}

// open begins a segment and returns its name.
func (b *board) open() string {
	b.segments++
	name := fmt.Sprintf("T%06d", b.segments)
	b.add(&custody.Opened{Record: b.rec, Segment: name, T: b.t})
	b.header(name)
	return name
}

func (b *board) header(name string) {
	n := must(strconv.Atoi(name[1:]))
	b.put(name, segment.Block{Meta: segment.Meta{Header: &segment.Header{Format: 1, Device: b.id, Record: b.rec, Stream: name[:1],
		Segment: n, Boot: "00000000-0000-0000-0000-000000000000", Version: "vectors", Lock: "bench", Grade: "none",
		Links: []segment.Link{{Name: "fc", Device: "pty"}}}}})
}

// put appends a block to the content of an open segment.
func (b *board) put(name string, blk segment.Block) {
	next := &b.block
	if name[0] == 'X' {
		next = &b.auditBlock
	}
	if letter := name[0]; strings.IndexByte("AVP", letter) >= 0 {
		n := b.blocks[letter]
		b.blocks[letter]++
		next = &n
	}
	blk.Meta.Block, blk.Meta.BootUsec = *next, b.t
	*next++
	path := b.rec + "/" + name
	b.encoded[path] = must(b.enc.Append(b.encoded[path], &blk))
}

// record puts n frames into an open segment, as one block.
func (b *board) record(name string, n int, change ...func(*segment.Block)) {
	blk := segment.Block{Meta: segment.Meta{Frames: n, Offset: b.link}}
	for range n {
		f := heartbeat(b.seq)
		b.seq++
		b.link += int64(len(f))
		b.Frames = append(b.Frames, f)
		blk.Data = append(binary.BigEndian.AppendUint64(blk.Data, uint64(b.t)), f...)
	}
	for _, c := range change {
		c(&blk)
	}
	b.put(name, blk)
	b.pass(second / 10)
}

// heartbeat is a HEARTBEAT of MAVLink 2, its checksum right.
func heartbeat(seq byte) []byte {
	f := []byte{0xFD, 9, 0, 0, seq, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 3, 81, 4, 3}
	crc := uint16(0xFFFF)
	for _, c := range append(slices.Clone(f[1:]), 50) {
		x := c ^ byte(crc)
		x ^= x << 4
		crc = crc>>8 ^ uint16(x)<<8 ^ uint16(x)<<3 ^ uint16(x)>>4
	}
	return binary.LittleEndian.AppendUint16(f, crc)
}

// openFile is the open form of a segment as it grows.
type openFile struct {
	out    bytes.Buffer
	sealer *seal.Sealer
}

// headerOnly is the open form of a segment to which nothing was flushed.
func (b *board) headerOnly() []byte {
	var out bytes.Buffer
	must(seal.New(&out, b.to)).Abandon()
	return out.Bytes()
}

// more records n frames and flushes them, without a checkpoint.
func (b *board) more(name string, n int) {
	path := b.rec + "/" + name
	from := len(b.encoded[path])
	b.record(name, n)
	b.flush(name, b.encoded[path][from:])
}

func (b *board) flush(name string, p []byte) {
	path := b.rec + "/" + name
	f := b.growing[path]
	if f == nil {
		f = &openFile{}
		f.sealer = must(seal.New(&f.out, b.to))
		b.growing[path] = f
	}
	must(f.sealer.Write(p))
	must(f.sealer.Flush())
	b.files[path+".open.age"] = bytes.Clone(f.out.Bytes())
}

// sealed returns the closed form of a segment.
func (b *board) sealed(name string) []byte {
	var out bytes.Buffer
	s := must(seal.New(&out, b.recipient(name[0])))
	must(s.Write(b.encoded[b.rec+"/"+name]))
	if err := s.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// writeOpen puts the open form of a segment onto the medium, all in one flush, and into the
// next checkpoints.
func (b *board) writeOpen(name string) {
	b.flush(name, b.encoded[b.rec+"/"+name])
	p := b.files[b.rec+"/"+name+".open.age"]
	b.opened = append(b.opened, custody.OpenFile{Record: b.rec, Name: name + ".open.age", Bytes: int64(len(p)), SHA256: hash(p)})
}

// close writes the closed form and its leaf C.
func (b *board) close(name string) {
	p := b.sealed(name)
	path := b.rec + "/" + name
	b.files[path+".age"] = p
	delete(b.files, path+".open.age")
	b.opened = slices.DeleteFunc(b.opened, func(o custody.OpenFile) bool { return o.Record == b.rec && o.Name == name+".open.age" })
	b.add(&custody.Closed{Record: b.rec, Segment: name, Size: int64(len(p)), SHA256: hash(p), From: b.t - second, To: b.t, Frames: int64(len(b.Frames)), T: b.t})
	b.checkpoint()
}

// segment is a whole closed segment of n frames.
func (b *board) segment(n int) string {
	name := b.open()
	b.record(name, n)
	b.pass(second)
	b.close(name)
	return name
}

// end ends the record.
func (b *board) end() {
	n := map[string]int64{}
	if b.segments > 0 {
		n["T"] = b.segments
	}
	if b.audits > 0 {
		n["X"] = b.audits
	}
	for stream, last := range b.media {
		n[string(stream)] = last
	}
	for letter, count := range b.others {
		n[string(letter)] = count
	}
	b.done(b.rec)
	b.add(&custody.Ended{Record: b.rec, Segments: n, T: b.t})
	b.checkpoint()
}

func (b *board) done(record string) {
	b.live = slices.DeleteFunc(slices.Clone(b.live), func(s string) bool { return s == record })
}

// flight is a whole record of so many closed segments.
func (b *board) flight(kind byte, recipients string, segments int) string {
	b.begin(kind, recipients)
	for range segments {
		b.segment(5)
	}
	b.end()
	return b.rec
}

// recover names what a cut left of the record, with what the last checkpoint said of it, and
// ends it.
func (b *board) recover(record string, names ...string) {
	r := &custody.Recovered{Record: record, Files: []custody.File{}, T: b.t}
	for _, n := range names {
		p := b.files[record+"/"+n]
		f := custody.File{Name: n, Size: int64(len(p)), SHA256: hash(p)}
		for _, o := range b.cp.Open {
			if o.Record == record && o.Name == n {
				f.SignedSize, f.SignedSHA256 = &o.Bytes, o.SHA256
			}
		}
		r.Files = append(r.Files, f)
	}
	b.opened = nil
	b.done(record)
	b.add(r)
}

// openAudit begins a segment of stream X and returns its name.
func (b *board) openAudit() string {
	b.audits++
	name := fmt.Sprintf("X%06d", b.audits)
	b.add(&custody.Opened{Record: b.rec, Segment: name, T: b.t})
	b.header(name)
	return name
}

// attempts puts n lines into an open segment of stream X, as one block.
func (b *board) attempts(name string, n int) {
	blk := segment.Block{Meta: segment.Meta{Frames: n}}
	for range n {
		line := fmt.Appendf(nil, `{"usec":%d,"seen_usec":%d,"layer":"nft-inet","what":"connect","pid":%d,"uid":1000,`+
			`"program":"/usr/bin/curl","protocol":"tcp","destination":"192.0.2.1:443","count":1}`+"\n", b.t, b.t+300, 100+len(b.Lines))
		b.Lines = append(b.Lines, line)
		blk.Data = append(blk.Data, line...)
		b.t += 10
	}
	b.put(name, blk)
}

// audit is a whole closed segment of n lines.
func (b *board) audit(n int) string {
	name := b.openAudit()
	b.attempts(name, n)
	b.close(name)
	return name
}

// drop removes the folder of a record.
func (b *board) drop(record string) {
	for name := range b.files {
		if strings.HasPrefix(name, record+"/") {
			delete(b.files, name)
		}
	}
}

func hash(p []byte) []byte {
	h := sha256.Sum256(p)
	return h[:]
}

// framesHash is what a vector says of frames; a hash of nothing where there are none.
func framesHash(frames [][]byte) string { return hex.EncodeToString(hash(slices.Concat(frames...))) }
