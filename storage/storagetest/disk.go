package storagetest

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"syscall"

	"holdfast/storage/vault"
)

// ErrPowerCut is what every call returns from the operation named by CrashAt onwards.
var ErrPowerCut = errors.New("power cut")

// defaultFree is the space of a new Disk in bytes: more than a test fills by accident.
const defaultFree = 1 << 40

// blockSize is what a directory takes of the free space, and the size of a page of
// the page cache.
const blockSize = 4096

// Disk is a medium in memory with the failures described at the package. It implements
// vault.FS. Its methods may be called from several goroutines, so that a test can watch
// a program at work; the same seed and the same order of calls give the same failures.
type Disk struct {
	mu   sync.Mutex
	rng  *rand.Rand
	root *inode
	seq  uint64 // number of changes to directories so far: their order over all of them

	free, used int64
	readOnly   bool
	ignoreSync bool
	noLinks    bool

	log    []operation
	faults map[int]error // number of an operation, from 1, to its error
	cutAt  int           // number of the operation the power cut falls into, 0 for none
	off    bool          // the cut has been
	onOp   func(name string)
}

var _ vault.FS = (*Disk)(nil)

// New returns an empty Disk. All that is left to chance is drawn from seed.
func New(seed uint64) *Disk {
	return &Disk{
		rng:    rand.New(rand.NewPCG(seed, 0x484f4c4446415354)),
		root:   newDir(),
		free:   defaultFree,
		faults: map[int]error{},
	}
}

// FailAt makes the n-th operation from now fail once with err: 1 is the next one. Several
// failures may be set at once. A Sync or SyncDir that fails loses for good what
// it should have made durable. A Write that fails may have taken its first part. n below 1
// is ignored.
func (d *Disk) FailAt(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n >= 1 {
		d.faults[len(d.log)+n] = err
	}
}

// CrashAt lets the power cut fall into the n-th operation from now: 1 is the next one. It
// and all later ones return ErrPowerCut. Of a Write in progress a first part may have been
// taken, a change of an entry in progress may have been made; neither is durable. Crash then
// gives what the medium holds. n below 1 takes back an earlier CrashAt that has not struck.
func (d *Disk) CrashAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt = 0
	if n >= 1 {
		d.cutAt = len(d.log) + n
	}
}

// SetFree sets the bytes that may still be written. Below zero counts as zero.
func (d *Disk) SetFree(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = max(0, bytes)
}

// ReadOnly makes every call that changes something fail with EROFS, as after a kernel
// has remounted a failing medium. A Sync with something to write fails too, and loses it.
func (d *Disk) ReadOnly(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readOnly = on
}

// NoLinks takes Link away, on this Disk and on those that Crash makes of it: as vfat, it knows
// no second name of a file.
func (d *Disk) NoLinks(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noLinks = on
}

// IgnoreSync makes Sync and SyncDir report success and do nothing, on this Disk and on those
// that Crash makes of it. It is the control of a crash test: a test that loses nothing with
// this proves nothing.
func (d *Disk) IgnoreSync(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ignoreSync = on
}

// SetOnOp sets a function that is called with the name of each operation before it is
// done, on the goroutine that does it. It may call the methods of the Disk that are no
// operations themselves, Crash among them. nil takes it away.
func (d *Disk) SetOnOp(f func(name string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onOp = f
}

// Ops returns the number of operations so far. Every call of the FS is one, successful or
// not, and so are Write and Sync of a File. Close and reading from an opened file are
// none. After the power cut nothing is counted.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

// OpNames returns the names of the operations so far: "create NAME", "open NAME",
// "append NAME", "truncate NAME", "replace NAME", "opensynced NAME",
// "read NAME" (ReadFile), "mkdir NAME", "rename OLD NEW", "link OLD NEW", "remove NAME", "readdir NAME",
// "syncdir NAME", "free", "lock NAME", "write NAME", "sync NAME". A File keeps the name
// it was created with.
func (d *Disk) OpNames() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, len(d.log))
	for i, o := range d.log {
		names[i] = o.String()
	}
	return names
}

// operation is one counted call. Its text is made only when asked for: a crash test does
// a million of them.
type operation struct {
	verb, name, newName string
}

func (o operation) String() string {
	s := o.verb
	if o.name != "" {
		s += " " + o.name
	}
	if o.newName != "" {
		s += " " + o.newName
	}
	return s
}

// fail puts the operation around err, in the form of package os. nil stays nil.
func (o operation) fail(err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: o.verb, Path: o.name, Err: err}
}

// begin counts an operation and returns with d.mu held. cut says that the power fails
// within it; err is ErrPowerCut, then or later, or a failure that was ordered.
func (d *Disk) begin(o operation) (cut bool, err error) {
	d.mu.Lock()
	if hook := d.onOp; hook != nil && !d.off {
		d.mu.Unlock()
		hook(o.String())
		d.mu.Lock()
	}
	if d.off {
		return false, ErrPowerCut
	}
	d.log = append(d.log, o)
	n := len(d.log)
	if n == d.cutAt {
		d.off = true
		return true, ErrPowerCut
	}
	return false, d.faults[n]
}

// look does an operation that changes nothing.
func (d *Disk) look(o operation, do func() error) error {
	_, err := d.begin(o)
	defer d.mu.Unlock()
	if err == nil {
		err = do()
	}
	return o.fail(err)
}

// change does an operation that changes entries.
func (d *Disk) change(o operation, do func() error) error {
	cut, err := d.begin(o)
	defer d.mu.Unlock()
	if err == nil && d.readOnly {
		err = syscall.EROFS
	}
	if err == nil {
		return o.fail(do())
	}
	if cut && !d.readOnly && d.coin() {
		_ = do() // the program no longer learns how it ended
	}
	return o.fail(err)
}

func (d *Disk) coin() bool { return d.rng.IntN(2) == 0 }
