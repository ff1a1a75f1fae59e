package vault_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

const (
	device    = "fe812c12"
	devicePub = "holdfast-fe812c12+55c507b1+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs\n"
)

// deviceKey is that of device: made of 32 bytes 7.
var deviceKey = sync.OnceValue(func() note.Signer {
	k, err := keys.NewDeviceKey(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil || k.Verifier()+"\n" != devicePub {
		panic(fmt.Sprint(k, err))
	}
	s, err := k.Signer()
	if err != nil {
		panic(err)
	}
	return s
})

// crew is the operator whom everything is sealed for.
var crew = sync.OnceValues(func() (age.Identity, *keys.Recipients) {
	secret, line, err := keys.GenerateIdentity(true)
	if err != nil {
		panic(err)
	}
	ids, err := keys.ParseIdentities(strings.NewReader(secret))
	if err != nil {
		panic(err)
	}
	to, err := keys.ParseRecipients(strings.NewReader(line))
	if err != nil {
		panic(err)
	}
	return ids[0], to
})

func newKey() (*vault.FlightKey, error) {
	_, to := crew()
	k, err := keys.NewFlightKey(to)
	if err != nil {
		return nil, err
	}
	fk := &vault.FlightKey{Public: k.Public, Salt: []byte("0123456789abcdef")}
	for _, line := range to.Strings() {
		fk.Recipients = append(fk.Recipients, custody.Fingerprint(fk.Salt, line))
	}
	for _, f := range k.Files {
		fk.Files = append(fk.Files, vault.KeyFile{Name: f.Name, Data: f.Data})
	}
	return fk, nil
}

// clock is the time since boot, moved by the test alone.
type clock struct{ now time.Duration }

func (c *clock) read() time.Duration { return c.now }

func config(fsys vault.FS, c *clock) vault.Config {
	return vault.Config{
		FS: fsys, DeviceID: device, DevicePub: devicePub, DeviceKey: deviceKey(), Rand: chacha(), Now: c.read, NewKey: newKey,
		Header: segment.Header{Boot: "boot", Version: "test", Lock: "bench", Grade: "none",
			Links: []segment.Link{{Name: "secret-link", Device: "/dev/ttySECRET", Baud: 921600}}},
		FlushArmed: 200 * time.Millisecond, FlushIdle: 900 * time.Millisecond, WhenFull: "stop",
	}
}

// chacha gives epoch keys that are the same in each run: a failure must happen again.
func chacha() io.Reader { return rand.NewChaCha8([32]byte{3}) }

func mustOpen(t testing.TB, cfg vault.Config) *vault.Vault {
	t.Helper()
	v, err := vault.Open(cfg)
	must(t, err)
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entrySize is the size of the entries here: a stamp, a number, and bytes that follow from it.
const entrySize = 40

func appendEntry(p []byte, n uint64) []byte {
	p = binary.BigEndian.AppendUint64(p, n*10_000)
	p = binary.BigEndian.AppendUint64(p, n)
	for i := range uint64(3) {
		p = binary.BigEndian.AppendUint64(p, (n+1)*(0x9E3779B97F4A7C15+2*i))
	}
	return p
}

func entries(from, to uint64) (p []byte) {
	for n := from; n < to; n++ {
		p = appendEntry(p, n)
	}
	return p
}

// randomBytes is what noise is taken from.
var randomBytes = sync.OnceValue(func() []byte {
	p := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{9}).Read(p)
	return p
})

func noise(size int) []byte {
	return segment.AppendNoise(nil, segment.NoiseRun{Data: randomBytes()[:size]})
}

// rig does with a vault what the recorder does: entries arrive at their own pace, wait for the
// flush interval, and are appended and flushed; clean-up is done when no flush is due.
type rig struct {
	v     *vault.Vault
	clock *clock
	rng   *rand.Rand
	start time.Duration // when the first entry arrives
	base  uint64        // its number
	next  uint64        // number of the next entry to be appended
	// durable: every entry below was flushed with success.
	durable  uint64
	want     vault.Kind
	goesOn   vault.RecordID
	retryAt  time.Duration
	nextRoom time.Duration
	// steady is the record that a cut now must be found in; zero while one is begun or ended.
	steady     vault.RecordID
	armedSince time.Duration
	faults     int
	waited     map[string]time.Duration // the longest an entry waited, by what was done
	onFlush    func()                   // after each flush with success
	failed     func(error) bool         // ends the run where it returns true

	// Lines of the audit arrive, too: number lines of them were given, those below lasting are
	// known to be durable.
	lines, lasting uint64
	lineWait       map[vault.Kind]time.Duration // the longest that a line waited a second into a record or later
}

// linePeriod is the time between two lines of the audit.
const linePeriod = 510 * time.Millisecond

// line is what the n-th line of the audit holds.
func line(n uint64) []byte { return fmt.Appendf(nil, "{\"line\":%d}\n", n) }

// audit gives lines that have arrived, and notes what is durable.
func (r *rig) audit() {
	if _, waits := r.v.AuditDue(); !waits && r.v.Record().Number != 0 {
		if r.lasting < r.lines && r.lineAt(r.lasting) > r.armedSince+time.Second {
			kind := r.v.Record().Kind
			r.lineWait[kind] = max(r.lineWait[kind], r.clock.now-r.lineAt(r.lasting))
		}
		r.lasting = r.lines
	}
	for r.lineAt(r.lines) <= r.clock.now && r.v.Audit(line(r.lines)) {
		r.lines++
	}
}

// lineAt is when line n arrives.
func (r *rig) lineAt(n uint64) time.Duration { return r.start + time.Duration(n-r.base+1)*linePeriod }

// period is the time between two entries.
const period = 10 * time.Millisecond

func newRig(v *vault.Vault, c *clock, seed, base uint64) *rig {
	return &rig{v: v, clock: c, rng: rand.New(rand.NewPCG(seed, 77)), start: c.now, base: base, next: base, durable: base, lines: base, lasting: base,
		waited: map[string]time.Duration{}, lineWait: map[vault.Kind]time.Duration{}, failed: func(err error) bool { return errors.Is(err, storagetest.ErrPowerCut) || errors.Is(err, errKilled) }}
}

// arrived returns the number behind the newest entry that has arrived.
func (r *rig) arrived() uint64 { return r.base + uint64((r.clock.now-r.start)/period) }

// since is when entry n arrived.
func (r *rig) since(n uint64) time.Duration { return r.start + time.Duration(n-r.base+1)*period }

type phase struct {
	kind vault.Kind
	last time.Duration
}

// run does the phases and ends the record.
func (r *rig) run(phases ...phase) error {
	for _, p := range phases {
		r.want = p.kind
		r.v.SetArmed(p.kind == vault.Flight)
		for end := r.clock.now + p.last; r.clock.now < end; {
			if err := r.tick(); err != nil && r.fault(err) {
				return err
			}
		}
	}
	r.steady = vault.RecordID{}
	if err := r.drain(); err != nil && r.fault(err) {
		return err
	}
	err := r.v.End()
	if err == nil && r.faults == 0 {
		r.lasting = r.lines
	}
	return err
}

// fault backs off as the recorder does.
func (r *rig) fault(err error) (stop bool) {
	r.faults++
	r.retryAt = r.clock.now + 250*time.Millisecond
	return r.failed(err)
}

func (r *rig) tick() error {
	r.audit()
	now := r.clock.now
	if now >= r.nextRoom {
		r.nextRoom = now + time.Second
		if err := r.v.Room(); err != nil {
			return err
		}
		if err := r.v.Prepare(); err != nil {
			return err
		}
	}
	if r.due() {
		return r.drain()
	}
	left := time.Second
	if r.durable < r.arrived() {
		left = r.since(r.durable) + r.v.Interval() - now
	}
	if !r.v.StepWithin(left) {
		r.clock.now = max(r.clock.now, now+period)
	}
	return nil
}

func (r *rig) due() bool {
	if r.clock.now < r.retryAt || r.durable >= r.arrived() {
		return false
	}
	if r.v.Record().Number != 0 && r.v.Record().Kind != r.want { // a change of the arm bit wakes the recorder
		return true
	}
	return r.clock.now >= r.since(r.durable)+r.v.Interval()
}

func (r *rig) drain() error {
	what := "flush"
	if r.v.Record().Kind != r.want {
		was := r.v.Record()
		if was.Number != 0 { // what has come until now belongs to the old record
			if err := r.append(); err != nil {
				return err
			}
		}
		if r.durable < r.next && (was.Kind == vault.Flight || r.clock.now-r.since(r.durable) >= 500*time.Millisecond) {
			if err := r.v.Flush(); err != nil {
				return err
			}
			r.wait(was.Kind.String() + " flush")
		}
		r.steady = vault.RecordID{}
		err := r.v.Begin(r.want, r.goesOn)
		if err != nil && (r.v.Record() == was || r.failed(err)) {
			return err
		}
		if err == nil { // the record before was flushed
			r.wait(was.Kind.String() + " flush")
		}
		r.goesOn, what = vault.RecordID{}, "begin"
	}
	if err := r.append(); err != nil {
		return err
	}
	if err := r.v.Flush(); err != nil {
		return err
	}
	r.wait(r.want.String() + " " + what)
	r.noteSteady()
	if r.onFlush != nil {
		r.onFlush()
	}
	return nil
}

// append hands over what has arrived.
func (r *rig) append() error {
	for to := r.arrived(); r.next < to; {
		n := min(to, r.next+1+r.rng.Uint64N(200))
		b := segment.Block{Meta: segment.Meta{Frames: int(n - r.next)}, Data: entries(r.next, n)}
		if r.rng.IntN(12) == 0 {
			b.Noise = noise(r.rng.IntN(200 << 10))
		}
		r.next = n
		if err := r.v.Append(&b); err != nil {
			return err
		}
	}
	return nil
}

// wait notes how long the oldest of the entries that are durable now had to wait.
func (r *rig) wait(what string) {
	if r.durable < r.next {
		r.waited[what] = max(r.waited[what], r.clock.now-r.since(r.durable))
	}
	r.durable = r.next
}

func (r *rig) noteSteady() {
	if r.steady != r.v.Record() {
		r.steady = r.v.Record()
		r.armedSince = r.clock.now
	}
}

// promised returns the number behind the newest entry that a cut at this time may not cost:
// 250 ms while armed, 1 s else.
func (r *rig) promised(at time.Duration) uint64 {
	age := time.Second
	if r.want == vault.Flight && r.steady.Kind == vault.Flight && at-r.armedSince > age {
		age = 250 * time.Millisecond
	}
	n := r.durable
	for r.since(n) <= at-age {
		n++
	}
	return n
}
