package vault

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/storage/segment"
)

// Stream A, the autopilot's files: its log, parameters, mission. And what must be known before a
// log is erased where it came from: that the sealed copy lies on the medium.

const (
	// MaxFilePiece bounds the data of a block of PutFile, in bytes.
	MaxFilePiece = 64 << 10
	// filesBuffer is how many bytes of data, and filesBlocks how many blocks, may wait here.
	filesBuffer = 256 << 10
	filesBlocks = 1024
	// filesRoom is what a flush may need of the medium.
	filesRoom = 4 << 20
	// maxCompared bounds the closed segments that are remembered until they are compared.
	maxCompared = 1 << 16
)

var (
	// ErrDiffers: what the medium holds of a file of the autopilot is not what was written.
	ErrDiffers = errors.New("vault: the medium does not hold what was written")
	// ErrNotKept: a file of the autopilot is not there any more, or could not be closed.
	ErrNotKept = errors.New("vault: a segment of the autopilot's files was not kept")
)

// PutFile copies a block, with Meta.File set and at most MaxFilePiece of data, for stream A of the
// record that is open, or of the next one. ok is false where too much waits already: the medium is
// slow, has no room beside what is reserved for telemetry, or no record was begun for long; and
// for a block that is none. The block is durable after some Steps. number counts the blocks of
// this start from 0.
func (v *Vault) PutFile(b *segment.Block) (number uint64, ok bool) {
	q := &v.files
	if b.Meta.File == nil || len(b.Data) > MaxFilePiece || q.held+len(b.Data) > filesBuffer || len(q.blocks) >= filesBlocks {
		return 0, false
	}
	q.add(cloneBlock(b), v.cfg.Now())
	return q.given - 1, true
}

// cloneBlock copies what a block of a file has.
func cloneBlock(b *segment.Block) segment.Block {
	c := segment.Block{Meta: b.Meta, Data: slices.Clone(b.Data), Stored: b.Stored}
	f := *b.Meta.File
	f.Lost = slices.Clone(f.Lost)
	c.Meta.File, c.Meta.Events = &f, slices.Clone(b.Meta.Events)
	return c
}

// FileDue tells when the next Step for stream A is due; ok is false where none is.
func (v *Vault) FileDue() (at time.Duration, ok bool) { return v.sideDue(&v.files) }

// given is a range of the numbers of PutFile; to is behind the last. Empty: none.
type given struct{ from, to uint64 }

func (g *given) add(h given) {
	switch {
	case h.from == h.to:
	case g.from == g.to:
		*g = h
	default:
		g.from, g.to = min(g.from, h.from), max(g.to, h.to)
	}
}

// confirming is what is known of the blocks of PutFile on the medium.
type confirming struct {
	asked  bool
	below  uint64 // blocks with these numbers are asked for
	number uint64 // and these are confirmed
	closed []closedFiles
	err    error
}

// closedFiles is a closed segment of stream A, as its leaf C has it.
type closedFiles struct {
	rec     RecordID
	number  int
	blocks  given
	closed  durable
	leaves  int64 // that must be signed first
	missing bool  // was not closed, or removed with its record
	same    bool  // was compared
}

// Confirm asks that all blocks that PutFile has taken are in segments that were closed in good
// order, signed, read again from the medium, and are there what their leaves C say. Steps do so,
// one sync or one segment each; Confirmed tells how far they are.
func (v *Vault) Confirm() {
	c := &v.confirm
	c.asked, c.below, c.err = true, v.files.given, nil
}

// Confirmed returns the number below which all blocks of PutFile are confirmed. An error, ErrDiffers
// among them, says that the last Confirm does not come to its end: another one tries again.
func (v *Vault) Confirmed() (number uint64, err error) { return v.confirm.number, v.confirm.err }

// confirmEnds tells that the open segment of stream A ends now: all that was asked for is in it.
func (v *Vault) confirmEnds(q *side) bool {
	c := &v.confirm
	cur := v.rec.a.cur
	return q == &v.files && c.asked && q.given-uint64(len(q.blocks)) >= c.below && cur.span.given.from < c.below && cur.span.given.to > 0
}

// confirmStep compares one segment.
func (v *Vault) confirmStep() (did bool) {
	c := &v.confirm
	if !c.asked || c.err != nil {
		return false
	}
	i := slices.IndexFunc(c.closed, func(f closedFiles) bool {
		return !f.same && f.blocks.from < c.below && (f.missing || v.log.signed >= f.leaves)
	})
	if i >= 0 {
		c.err = v.compare(&c.closed[i])
		c.closed[i].same = c.err == nil
	}
	c.advance()
	c.asked = c.number < c.below
	return i >= 0
}

// compare reads a segment from the medium.
func (v *Vault) compare(f *closedFiles) error {
	name := v.path(f.rec.String(), SegmentFile{segment.StreamAutopilot, f.number, suffixClosed}.String())
	if f.missing {
		return fmt.Errorf("%w: %s", ErrNotKept, name)
	}
	size, sum, err := v.hash(name, f.closed.bytes+1)
	switch {
	case err != nil:
		return fmt.Errorf("confirm %s: %w", name, err)
	case size != f.closed.bytes || !bytes.Equal(sum, f.closed.sum[:]):
		return fmt.Errorf("%w: %s", ErrDiffers, name)
	}
	return nil
}

// advance moves the number over what was compared.
func (c *confirming) advance() {
	for i := 0; i < len(c.closed); {
		f := &c.closed[i]
		if !f.same || f.blocks.from > c.number {
			i++
			continue
		}
		c.number = max(c.number, f.blocks.to)
		c.closed = slices.Delete(c.closed, i, i+1)
		i = 0
	}
}

// add takes a segment that was closed, or was not and never will be.
func (c *confirming) add(f closedFiles) {
	if f.blocks.from < f.blocks.to && len(c.closed) < maxCompared {
		c.closed = append(c.closed, f)
	}
}

// gone notes that a record was removed.
func (c *confirming) gone(id RecordID) {
	for i := range c.closed {
		c.closed[i].missing = c.closed[i].missing || c.closed[i].rec == id && !c.closed[i].same
	}
}
