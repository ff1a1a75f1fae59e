package custody

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// EpochLength is how long one key signs.
const EpochLength = 60 * time.Second

const (
	epochUsec = int64(EpochLength / time.Microsecond)
	// maxEpochs is how many leaves Epoch are added in a row: those of a day. Each costs a key
	// and a signature, and the longer pause needs a start of its own.
	maxEpochs = int64(24 * time.Hour / EpochLength)
	// maxPending bounds what waits for a medium that takes nothing, and keepPending the buffer
	// that is kept for the next leaves, in bytes.
	maxPending, keepPending = 16 << 20, 1 << 20
)

var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("log is closed")
	// ErrPaused means that the clock stood still, or jumped, by more than a day. It stays as
	// long as the clock says so: begin a new boot (Load, NewLog).
	ErrPaused = errors.New("more than a day without a leaf")
	// ErrFull means that too many bytes wait for Sync to succeed.
	ErrFull = errors.New("too much waits to be written to the log")
	// ErrKind means a leaf that only the Log itself makes.
	ErrKind = errors.New("a kind of leaf that the log makes itself")
)

// Store is what a Log is written to. Its errors are handed through, wrapped.
type Store interface {
	// Append writes p at the end of log.bin. It need not be durable.
	Append(p []byte) error
	// Sync makes log.bin durable. After a failure it is not called again before Rewind.
	Sync() error
	// Rewind follows a failure of Append, Sync or Rewind: it cuts log.bin back to size, which
	// is what the last good Sync covered, on a fresh descriptor.
	Rewind(size int64) error
	// PutSlot replaces cp.A (0) or cp.B (1) in place and makes it durable.
	PutSlot(slot int, p []byte) error
}

// Config is what a Log needs. All fields must be set.
type Config struct {
	Device    string               // 8 hex digits
	DeviceKey note.Signer          // of the key named Origin(Device)
	Now       func() time.Duration // since the kernel started
	Rand      io.Reader            // for the epochs' keys
	Store     Store
}

// Log writes the log of one boot. Nothing but Sync and Checkpoint calls the Store. Where the
// clock goes back the Log's stands still. Not safe for concurrent use.
type Log struct {
	cfg   Config
	key   *epochKey // in force
	tree  *Frontier // of all leaves, those that are pending included
	track tracker

	boot, epoch int64
	start, last int64 // time of leaf B, and of what was done last, in microseconds

	synced  int64  // bytes of log.bin that are durable
	pending []byte // leaves behind them
	failed  bool   // some of pending may stand in log.bin

	slot  int  // that holds the newest checkpoint; -1: none does
	stale bool // and it counts leaves that are lost
}

// NewLog begins a boot: it makes the key of epoch 0 and adds leaf B, in memory. st is used up.
// log.bin must have been cut to st.Bytes. Checkpoint before the first record is begun: without
// any valid checkpoint no cut can be told from a hand that destroyed them.
func NewLog(cfg Config, st *State) (*Log, error) {
	if cfg.DeviceKey.Name() != Origin(cfg.Device) {
		return nil, fmt.Errorf("device key is named %s, not %s", cfg.DeviceKey.Name(), Origin(cfg.Device))
	}
	l := &Log{
		cfg: cfg, tree: st.Frontier, track: newTracker(st.Next, st.Live, st.Deleting),
		boot: st.Boot + 1, synced: st.Bytes, slot: st.slot, stale: st.Lost,
	}
	l.start = l.now()
	l.last = l.start
	var err error
	if l.key, err = newEpochKey(cfg.Device, cfg.Rand); err != nil {
		return nil, err
	}
	if err := l.addBoot(st); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Log) addBoot(st *State) error {
	b := &Boot{Boot: l.boot, Key: l.key.pub, Signed: st.Signed, Slots: st.Slots, T: l.start, Torn: st.Torn, V: Version}
	sig, err := l.cfg.DeviceKey.Sign(BootMessage(l.cfg.Device, b, l.tree.Size(), l.tree.Root()))
	if err != nil {
		return fmt.Errorf("certify boot: %w", err)
	}
	b.Sig = sig
	return l.add(b)
}

// now is the clock, in microseconds; it never goes back.
func (l *Log) now() int64 {
	return max(l.last, l.cfg.Now().Microseconds(), 0)
}

// Add appends a leaf and sets its time. Leaves Epoch that are due go before it. It does no I/O:
// the leaf waits for Sync. ErrLeaf means that e breaks the format, ErrKind that e is a Boot
// or an Epoch; ErrFull, ErrPaused and ErrClosed are possible, too.
func (l *Log) Add(e Entry) error {
	switch e.(type) {
	case *Boot, *Epoch:
		return ErrKind
	}
	if err := l.Tick(); err != nil {
		return err
	}
	e.setTime(l.last)
	return l.add(e)
}

// add appends a leaf whose time is set.
func (l *Log) add(e Entry) error {
	leaf, err := NewLeaf(e)
	if err != nil {
		return err
	}
	if int64(len(l.pending))+leaf.Size() > maxPending {
		return ErrFull
	}
	l.pending = leaf.Append(l.pending)
	l.tree.Add(leaf.Hash())
	l.track.apply(e)
	return nil
}

// Tick adds the leaves Epoch that are due: one for each epoch that has ended, several after a
// pause. It does no I/O. Call it at least once an epoch, so that no key is kept beyond its time.
func (l *Log) Tick() error {
	if l.key == nil {
		return ErrClosed
	}
	t := l.now()
	due := (t-l.start)/epochUsec - l.epoch
	if due > maxEpochs {
		return ErrPaused
	}
	for range due {
		if err := l.nextEpoch(t); err != nil {
			return err
		}
	}
	l.last = t
	return nil
}

func (l *Log) nextEpoch(t int64) error {
	pub, err := l.key.prepare()
	if err != nil {
		return err
	}
	e := &Epoch{Boot: l.boot, Epoch: l.epoch + 1, Key: pub, T: t}
	e.Sig = l.key.sign(EpochMessage(l.cfg.Device, e, l.tree.Size(), l.tree.Root()))
	if err := l.add(e); err != nil {
		return err
	}
	l.epoch++
	l.last = t
	l.key.advance()
	return nil
}

// Pending tells whether leaves wait for Sync.
func (l *Log) Pending() bool { return len(l.pending) > 0 }

// Sync writes what is pending and makes it durable. After an error all of it is still pending,
// and the next Sync rewinds the Store first and writes the same bytes again.
func (l *Log) Sync() error {
	if l.key == nil {
		return ErrClosed
	}
	if len(l.pending) == 0 {
		return nil
	}
	if l.failed {
		if err := l.cfg.Store.Rewind(l.synced); err != nil {
			return fmt.Errorf("rewind log: %w", err)
		}
	}
	l.failed = true
	if err := l.cfg.Store.Append(l.pending); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	if err := l.cfg.Store.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	l.failed = false
	l.synced += int64(len(l.pending))
	l.pending = l.pending[:0]
	if cap(l.pending) > keepPending {
		l.pending = nil
	}
	return nil
}

// Checkpoint signs all leaves, and open, the durable parts of the files that are being written
// (at most 64), into the slot that does not hold the newest checkpoint. What is pending is
// synced first. After an error the newest checkpoint stands as it was, and the next call
// writes the same slot. ErrCheckpoint means that open breaks the format.
func (l *Log) Checkpoint(open []OpenFile) error {
	if err := l.Tick(); err != nil {
		return err
	}
	if err := l.Sync(); err != nil {
		return err
	}
	msg, err := l.checkpoint(open).Sign(l.key)
	if err != nil {
		return err
	}
	if err := l.putSlot(msg); err != nil || !l.stale {
		return err
	}
	// The other slot counts leaves that are lost, and would still be taken for the newest.
	if err := l.putSlot(msg); err != nil {
		return err
	}
	l.stale = false
	return nil
}

func (l *Log) checkpoint(open []OpenFile) *Checkpoint {
	open = slices.Clone(open)
	slices.SortFunc(open, func(a, b OpenFile) int {
		return cmp.Or(cmp.Compare(a.Record, b.Record), cmp.Compare(a.Name, b.Name))
	})
	return &Checkpoint{
		Device: l.cfg.Device, Size: l.tree.Size(), Root: l.tree.Root(),
		Boot: l.boot, Epoch: l.epoch, T: l.last, Key: l.key.pub,
		LogBytes: l.synced, Next: l.track.next, Live: l.track.live.newest(), Deleting: l.track.deleting.newest(),
		Frontier: l.tree.Hashes(), Open: open,
	}
}

// putSlot writes the slot that does not hold the newest checkpoint. One that could not be
// written is bad, so it stays the one to write.
func (l *Log) putSlot(msg []byte) error {
	slot := 0
	if l.slot == 0 {
		slot = 1
	}
	if err := l.cfg.Store.PutSlot(slot, msg); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	l.slot = slot
	return nil
}

// Gone says that the folder of a record in Deleting is gone.
func (l *Log) Gone(record string) { delete(l.track.deleting, record) }

// Next is the number of the next record.
func (l *Log) Next() int64 { return l.track.next }

// Live lists the records that have not ended, by number.
func (l *Log) Live() []string { return l.track.live.list() }

// Deleting lists the records that are being deleted, by number.
func (l *Log) Deleting() []string { return l.track.deleting.list() }

// Boot is the number of this boot, from 1.
func (l *Log) Boot() int64 { return l.boot }

// Size is the number of leaves, those that are pending included.
func (l *Log) Size() int64 { return l.tree.Size() }

// Close wipes the key. It writes nothing: what is pending is lost. A second call does nothing.
func (l *Log) Close() {
	if l.key != nil {
		l.key.wipe()
		l.key = nil
	}
}
