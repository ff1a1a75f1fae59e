package custody

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
)

// What the log says of a record's number; the letter of its kind is the lowest bit.
const (
	numberGround  byte = 1 << iota
	numberKey          // leaf K stands
	numberEnded        // leaf Z stands
	numberFound        // leaf R stands
	numberDeleted      // a proven leaf X deleted stands
	numberUndone       // leaf X undone stands
	numberDoomed       // leaf X deleted stands, proven or not
	numberTaken        // the second pass has come to its leaf K
)

// What the log says of a segment.
const (
	segmentOpened byte = 1 << iota
	segmentUndone
	segmentFailed
	segmentRefused
	segmentClosed
)

const (
	// maxGap is how many numbers that were passed over are taken as such; a jump beyond it is
	// a leaf that is not believed.
	maxGap = 1 << 16
	// maxSegments bounds the segments of a record, and of all records that are open together.
	maxSegments = 1 << 20
)

const streams = "TVPAX"

// liveRecord is what the chain keeps of a record that has not ended.
type liveRecord struct {
	name     string
	boot     int64
	segments [len(streams)][]byte
}

// chain follows log.bin from its first leaf: signatures, epochs, times and the order of leaves
// (V1 to V9, V17). It keeps one byte for each number and a little for each record that has not ended.
type chain struct {
	device    string
	deviceKey ed25519.PublicKey // nil: not known
	find      func(Finding)

	tree   Frontier
	bytes  int64 // that the leaves so far take
	proven int64

	boots, start, epoch, time int64
	key                       ed25519.PublicKey // in force; nil where it is not certified
	outside                   bool              // a leaf outside its epoch was reported
	begun                     bool              // K or L of this boot was seen
	sealed                    bool              // K of this boot was seen
	lock                      *Lock             // the newest leaf L of this boot; nil: none

	numbers  []byte // by number, from 1 at index 1
	live     map[string]*liveRecord
	held     int // segments of all in live
	unproven []doomed
}

// doomed is a leaf X deleted that is not proven yet.
type doomed struct{ number, leaf int64 }

func (c *chain) begin(find func(Finding)) {
	c.find, c.numbers, c.live = find, []byte{0}, map[string]*liveRecord{}
}

func (c *chain) size() int64 { return c.tree.Size() }

// next is the number of the next record.
func (c *chain) next() int64 { return int64(len(c.numbers)) }

// breach reports a rule that the leaf in hand breaks.
func (c *chain) breach(rule, format string, args ...any) {
	c.breachAs(VerdictTampered, rule, format, args...)
}

func (c *chain) breachAs(state Verdict, rule, format string, args ...any) {
	c.find(Finding{State: state, Rule: rule, File: logFile, Leaf: at(c.size()), Byte: at(c.bytes), Text: fmt.Sprintf(format, args...)})
}

// add takes the next leaf, which ends at the offset end. An error means that it is none.
func (c *chain) add(l Leaf, end int64) error {
	e, err := l.Entry()
	if err != nil {
		return err
	}
	right := c.step(e)
	c.tree.Add(l.Hash())
	c.bytes = end
	if right {
		c.prove(c.size())
	}
	return nil
}

// prove notes a right signature over the first n leaves.
func (c *chain) prove(n int64) {
	c.proven = max(c.proven, n)
	for len(c.unproven) > 0 && c.unproven[0].leaf < n {
		c.numbers[c.unproven[0].number] |= numberDeleted
		c.unproven = c.unproven[1:]
	}
}

// step checks one leaf and tells whether it is a right signature.
func (c *chain) step(e Entry) (right bool) {
	b, isBoot := e.(*Boot)
	if c.boots == 0 && !isBoot && c.size() == 0 {
		c.breach("V1", "the first leaf is not the start of a boot")
	}
	if isBoot {
		return c.boot(b)
	}
	if e.Time() < c.time {
		c.breach("V4", "its time goes back from %d to %d microseconds within a boot", c.time, e.Time())
	}
	c.time = e.Time()
	if e, ok := e.(*Epoch); ok {
		return c.nextEpoch(e)
	}
	if n := epochOf(c.start, e.Time()); n != c.epoch && !c.outside && c.boots > 0 {
		c.breach("V3", "it lies in epoch %d, and the key in force is that of epoch %d", n, c.epoch)
		c.outside = true
	}
	c.event(e)
	return false
}

// epochOf returns the epoch of a time, -1 before the first.
func epochOf(start, t int64) int64 {
	if t < start {
		return -1
	}
	return (t - start) / epochUsec
}

// boot takes leaf B: V1, V2, V5.
func (c *chain) boot(b *Boot) (right bool) {
	if b.Boot != c.boots+1 {
		c.breach("V1", "it starts boot %d, and boot %d is next", b.Boot, c.boots+1)
	}
	if b.Signed > c.size() {
		c.breachAs(VerdictMissing, "V5", "%d leaves that were signed were gone at the start of boot %d", b.Signed-c.size(), b.Boot)
	}
	if b.Slots == SlotsBad {
		c.breach("V5", "both checkpoints were bad or gone at the start of boot %d, although there were records", b.Boot)
	}
	c.boots, c.start, c.time, c.epoch = b.Boot, b.T, b.T, 0
	c.outside, c.begun, c.sealed, c.lock = false, false, false, nil
	c.key = nil
	switch {
	case c.deviceKey == nil:
		return false // V2 has said so
	case !ed25519.Verify(c.deviceKey, BootMessage(c.device, b, c.size(), c.tree.Root()), b.Sig):
		c.breach("V2", "boot %d is not signed by the device key over the %d leaves before it: it, or one of those behind the last right signature, is not what was signed", b.Boot, c.size())
		return false
	}
	c.key = b.Key
	return true
}

// nextEpoch takes leaf E: V3.
func (c *chain) nextEpoch(e *Epoch) (right bool) {
	if e.Boot != c.boots || e.Epoch != c.epoch+1 {
		c.breach("V3", "it starts epoch %d of boot %d, and epoch %d of boot %d is next", e.Epoch, e.Boot, c.epoch+1, c.boots)
	}
	if epochOf(c.start, e.T) < e.Epoch {
		c.breach("V3", "its time is before epoch %d begins", e.Epoch)
	}
	c.epoch, c.outside = e.Epoch, false
	if c.key == nil {
		return false // said where the chain broke
	}
	if !ed25519.Verify(c.key, EpochMessage(c.device, e, c.size(), c.tree.Root()), e.Sig) {
		c.breach("V3", "epoch %d of boot %d is not signed by the key before it over the %d leaves before it: it, or one of those behind the last right signature, is not what was signed", e.Epoch, e.Boot, c.size())
		c.key = nil
		return false
	}
	c.key = e.Key
	return true
}

// event takes a leaf about records and the lock: V6 to V9, V17.
func (c *chain) event(e Entry) {
	switch e := e.(type) {
	case *Lock:
		c.begun, c.lock = true, e
	case *Recovered:
		c.found(e)
	case *FlightKey:
		c.record(e)
	case *Opened:
		c.opened(e)
	case *Closed:
		c.closed(e)
	case *Lost:
		c.lost(e)
	case *Ended:
		c.ended(e)
	}
}

// count takes the number of a record that is new (V6), and tells whether it can be used.
func (c *chain) count(name string) bool {
	n := recordNumber(name)
	if n != c.next() {
		c.breach("V6", "%s follows number %d", name, c.next()-1)
	}
	if n < c.next() || n-c.next() > maxGap {
		return false
	}
	for c.next() <= n {
		c.numbers = append(c.numbers, 0)
	}
	if name[0] == 'G' {
		c.numbers[n] |= numberGround
	}
	return true
}

// state returns what is known of a record, and nil where the log does not name it so.
func (c *chain) state(name string) *byte {
	n := recordNumber(name)
	if n >= c.next() || c.numbers[n]&numberGround != 0 != (name[0] == 'G') {
		return nil
	}
	return &c.numbers[n]
}

func (c *chain) has(name string, bits byte) bool {
	s := c.state(name)
	return s != nil && *s&bits != 0
}

func (c *chain) record(e *FlightKey) {
	if late := c.leftOver(); len(late) > 0 {
		c.breach("V8", "%s had not ended at the start of boot %d, and no leaf R names it before %s", strings.Join(late, ", "), c.boots, e.Record)
	}
	switch {
	case c.lock == nil && !c.sealed:
		c.breach("V17", "no leaf L says how the lock stood before %s", e.Record)
	case c.lock != nil && c.lock.Ticket != "":
		c.breach("V17", "%s was begun while the lock was open for a ticket", e.Record)
	}
	c.begun, c.sealed = true, true
	if !c.count(e.Record) {
		return
	}
	*c.state(e.Record) |= numberKey
	if len(c.live) >= maxNames {
		c.breach("V7", "more than %d records have not ended", maxNames)
		return
	}
	c.live[e.Record] = &liveRecord{name: e.Record, boot: c.boots}
}

// leftOver lists the records of earlier boots that have not ended, 3 at most.
func (c *chain) leftOver() (names []string) {
	if c.sealed {
		return nil
	}
	for name, r := range c.live {
		if r.boot != c.boots {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names[:min(3, len(names))]
}

func (c *chain) drop(r *liveRecord, bits byte) {
	for _, s := range r.segments {
		c.held -= len(s)
	}
	*c.state(r.name) |= bits
	delete(c.live, r.name)
}

func (c *chain) found(e *Recovered) {
	r := c.live[e.Record]
	switch {
	case r == nil:
		c.breach("V8", "leaf R names %s, which had not begun, or had ended", e.Record)
		return
	case c.begun || r.boot == c.boots:
		c.breach("V8", "leaf R of %s does not stand between the start of the boot and its first K or L", e.Record)
	}
	c.drop(r, numberFound)
}

// alive returns the record that a leaf is about, and reports where it is not there (V7).
func (c *chain) alive(name string) *liveRecord {
	r := c.live[name]
	if r == nil && !(c.has(name, numberKey) && !c.has(name, numberEnded|numberFound|numberUndone|numberDoomed)) {
		c.breach("V7", "a leaf is about %s, which had not begun, or had ended", name)
	}
	return r
}

// segment returns what the log says of a segment; nil where it has no number yet.
func (r *liveRecord) segment(name string) *byte {
	all := r.segments[indexOfStream(name)]
	n := segmentNumber(name)
	if n > int64(len(all)) {
		return nil
	}
	return &all[n-1]
}

func segmentNumber(name string) (n int64) {
	for _, d := range name[1:7] { // IsSegment has passed it
		n = n*10 + int64(d-'0')
	}
	return n
}

// number takes the next number of a stream (V7).
func (c *chain) number(r *liveRecord, name string, bit byte) {
	all := &r.segments[indexOfStream(name)]
	n := segmentNumber(name)
	if n != int64(len(*all))+1 {
		c.breach("V7", "segment %s of %s follows number %d", name, r.name, len(*all))
	}
	if n <= int64(len(*all)) {
		return
	}
	more := int(n) - len(*all)
	if c.held+more > maxSegments {
		c.breach("V7", "%s: more than %d segments are open to change", r.name, maxSegments)
		return
	}
	c.held += more
	*all = append(*all, make([]byte, more)...)
	(*all)[n-1] = bit
}

func (c *chain) opened(e *Opened) {
	if r := c.alive(e.Record); r != nil {
		c.number(r, e.Segment, segmentOpened)
	}
}

func (c *chain) closed(e *Closed) {
	r := c.alive(e.Record)
	if r == nil {
		return
	}
	s := r.segment(e.Segment)
	switch {
	case s == nil || *s&segmentOpened == 0:
		c.breach("V7", "segment %s of %s is closed and was not begun", e.Segment, e.Record)
		return
	case *s&segmentClosed != 0:
		c.breach("V7", "segment %s of %s is closed twice", e.Segment, e.Record)
	case *s&segmentUndone != 0:
		c.breach("V7", "segment %s of %s is closed and was taken back", e.Segment, e.Record)
	}
	*s |= segmentClosed
}

func (c *chain) lost(e *Lost) {
	switch {
	case e.Why == WhyDeleted:
		c.deleted(e)
	case e.Segment == "":
		c.undone(e)
	default:
		c.lostSegment(e)
	}
}

// deleted takes X deleted: V9.
func (c *chain) deleted(e *Lost) {
	switch {
	case !c.has(e.Record, numberEnded|numberFound):
		c.breach("V9", "%s is deleted and had not ended", e.Record)
		return
	case c.has(e.Record, numberDoomed):
		c.breach("V9", "%s is deleted twice", e.Record)
		return
	}
	*c.state(e.Record) |= numberDoomed
	c.unproven = append(c.unproven, doomed{recordNumber(e.Record), c.size()})
}

// undone takes X undone of a record: V6.
func (c *chain) undone(e *Lost) {
	if c.count(e.Record) {
		*c.state(e.Record) |= numberUndone
	}
}

func (c *chain) lostSegment(e *Lost) {
	r := c.alive(e.Record)
	if r == nil {
		return
	}
	s := r.segment(e.Segment)
	if s == nil && e.Why == WhyUndone {
		c.number(r, e.Segment, segmentUndone)
		return
	}
	bit := map[string]byte{WhyUndone: segmentUndone, WhyFailed: segmentFailed, WhyRefused: segmentRefused}[e.Why]
	switch {
	case s == nil || *s&segmentOpened == 0:
		c.breach("V7", "segment %s of %s is %s and was not begun", e.Segment, e.Record, e.Why)
		return
	case e.Why == WhyUndone && *s != segmentOpened:
		c.breach("V7", "segment %s of %s is taken back after a C or X", e.Segment, e.Record)
	}
	*s |= bit
}

// ended takes Z: V7.
func (c *chain) ended(e *Ended) {
	r := c.alive(e.Record)
	if r == nil {
		return
	}
	for i, all := range r.segments {
		highest := int64(0)
		for n, s := range all {
			if s&(segmentUndone) == 0 {
				highest = int64(n) + 1
			}
			if s&^segmentOpened == 0 {
				c.breach("V7", "%s ended, and its segment %c%06d has neither C nor X", e.Record, streams[i], n+1)
				break
			}
		}
		if e.Segments[streams[i:i+1]] != highest {
			c.breach("V7", "%s ended with %d segments of stream %c, and leaf Z says %d", e.Record, highest, streams[i], e.Segments[streams[i:i+1]])
		}
	}
	c.drop(r, numberEnded)
}

// against holds a checkpoint that counts the leaves so far against them, and says what does not
// fit (V10).
func (c *chain) against(p *Checkpoint) string {
	switch {
	case p.Device != c.device:
		return "it is of device " + p.Device
	case p.Boot != c.boots || p.Epoch != c.epoch:
		return fmt.Sprintf("it says epoch %d of boot %d, and the log is in epoch %d of boot %d", p.Epoch, p.Boot, c.epoch, c.boots)
	case !bytes.Equal(p.Key, c.key):
		return "it is not signed by the key in force after its leaves"
	case p.T < c.time || epochOf(c.start, p.T) != p.Epoch:
		return "its time does not lie in its epoch, behind the last leaf"
	case p.Root != c.tree.Root() || !slices.Equal(p.Frontier, c.tree.Hashes()):
		return "its root or frontier is not that of the leaves that it counts: one of those behind the last right signature is not what was signed"
	case p.LogBytes != c.bytes:
		return fmt.Sprintf("it says that its leaves take %d bytes, and they take %d", p.LogBytes, c.bytes)
	case p.Next != c.next():
		return fmt.Sprintf("it says that record %d is next, and %d is", p.Next, c.next())
	}
	return c.againstLists(p)
}

func (c *chain) againstLists(p *Checkpoint) string {
	if len(p.Live) != len(c.live) {
		return fmt.Sprintf("it names %d records that have not ended, and there are %d", len(p.Live), len(c.live))
	}
	for i, name := range p.Live {
		if c.live[name] == nil || i > 0 && recordNumber(p.Live[i-1]) >= recordNumber(name) {
			return "it says that " + name + " has not ended"
		}
	}
	for _, name := range p.Deleting {
		if !c.has(name, numberDoomed) {
			return "it says that " + name + " is being deleted, and no leaf does"
		}
	}
	return ""
}

// rawKey takes the 32 bytes out of a verifier line that keys.DeviceIDOf has passed.
func rawKey(line string) ed25519.PublicKey {
	fields := strings.SplitN(line, "+", 3)
	raw := fromBase64(fields[len(fields)-1])
	if len(raw) != 1+ed25519.PublicKeySize {
		return nil
	}
	return raw[1:]
}

func indexOfStream(segment string) int { return strings.IndexByte(streams, segment[0]) }
