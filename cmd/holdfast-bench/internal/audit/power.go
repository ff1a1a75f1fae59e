package audit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// powerDay is the program that is cut: each kind of record, long enough that a segment is closed.
var powerDay = []phase{{vault.Ground, 3 * time.Second}, {vault.Flight, 11500 * time.Millisecond}, {vault.Ground, 1500 * time.Millisecond}}

// quickSync is the longest a sync takes, of simulated time.
const quickSync = 5 * time.Millisecond

// trouble is what a medium does before the power goes.
type trouble string

// Troubles.
const (
	noTrouble trouble = "nothing else"
	oneEIO    trouble = "an operation before it fails with EIO"
	oneENOSPC trouble = "an operation before it fails with ENOSPC"
	noSpace   trouble = "no space from a moment before it"
	readOnly  trouble = "read-only from a moment before it"
)

// cut is one power cut.
type cut struct {
	seed       uint64
	mode       storagetest.CrashMode
	at         int // operation
	trouble    trouble
	before     int // operations between the trouble and the cut
	again      int // operation of the next start that is cut, too; 0: none
	ignoreSync bool
	point      string // what the operation is, for the tables
}

// plant is what all cuts share.
type plant struct {
	device *keys.DeviceKey
	crew   *crew
	verify verify
}

func newPlant(seed uint64, v verify) (*plant, error) {
	device, err := keys.NewDeviceKey(randomFrom(seed))
	if err != nil {
		return nil, err
	}
	c, err := newCrew()
	return &plant{device, c, v}, err
}

// start opens the vault on a disk under a clock.
func (p *plant) start(d *storagetest.Disk, now *time.Duration, seed uint64) (*vault.Vault, error) {
	cfg, err := vaultConfig(d, p.device, p.crew, randomFrom(seed+77), func() time.Duration { return *now })
	if err != nil {
		return nil, err
	}
	return vault.Open(cfg)
}

func isCut(err error) bool { return errors.Is(err, storagetest.ErrPowerCut) }

// record runs the program into the cut. last is when the last operation began.
func (p *plant) record(c cut) (d *storagetest.Disk, first *pilot, last time.Duration, err error) {
	d = storagetest.New(c.seed)
	d.IgnoreSync(c.ignoreSync)
	now, rng := time.Duration(0), rand.New(rand.NewPCG(c.seed, 5))
	ops := 0
	d.SetOnOp(func(name string) {
		ops++
		last = now
		if strings.HasPrefix(name, "sync") || strings.HasPrefix(name, "replace") {
			now += time.Duration(rng.Int64N(int64(quickSync) + 1))
		}
		if ops == c.at-c.before {
			c.trouble.strike(d)
		}
	})
	if c.at > 0 {
		d.CrashAt(c.at)
		c.trouble.order(d, c.at-c.before)
	}
	first = &pilot{now: &now, ends: isCut}
	if first.v, err = p.start(d, &now, c.seed); err != nil {
		return d, first, last, err
	}
	if c.seed%2 == 1 { // an epoch ends in the middle of the flight
		now += 50 * time.Second
	}
	first.start = now
	if err = first.run(powerDay...); err == nil {
		err = first.v.Close()
	}
	return d, first, last, err
}

// order sets the failure of one operation ahead.
func (t trouble) order(d *storagetest.Disk, at int) {
	switch t {
	case oneEIO:
		d.FailAt(at, syscall.EIO)
	case oneENOSPC:
		d.FailAt(at, syscall.ENOSPC)
	}
}

// strike changes the medium for good.
func (t trouble) strike(d *storagetest.Disk) {
	switch t {
	case noSpace:
		d.SetFree(0)
	case readOnly:
		d.ReadOnly(true)
	}
}

// do cuts the power and says what promise was broken, if any.
func (p *plant) do(c cut) (wrong []string) {
	d, first, last, err := p.record(c)
	if err != nil && !isCut(err) && c.trouble == noTrouble {
		return []string{"the recorder ended with " + err.Error() + ", not with the cut"}
	}
	d = d.Crash(c.mode)
	head, state, why := p.sound(d, nil)
	wrong = prefix("after the cut", why)
	if isCut(err) && first.steady && c.trouble == noTrouble && state != custody.VerdictCut {
		wrong = append(wrong, fmt.Sprintf("a record was open, and the folder is %q", state))
	}
	if c.again > 0 {
		d.SetFree(1 << 40)
		d.CrashAt(c.again)
		p.cutStart(d, c.seed)
		d = d.Crash(c.mode)
		_, _, why = p.sound(d, head)
		wrong = append(wrong, prefix("after a cut in the next start", why)...)
	}
	second, why := p.goOn(d, c.seed)
	wrong = append(wrong, why...)
	if _, _, why = p.sound(d, head); len(why) > 0 {
		wrong = append(wrong, prefix("after the next start", why)...)
	}
	promised := first.durable
	if c.trouble == noTrouble && first.v != nil {
		promised = first.promised(last)
	}
	return append(wrong, p.lost(d.Files(), promised, first, second)...)
}

func prefix(when string, wrong []string) (out []string) {
	for _, w := range wrong {
		out = append(out, when+": "+w)
	}
	return out
}

// sound verifies what a cut left: it may be cut and nothing worse. head, where not nil, was seen
// before. It returns the newest head and the state of the whole.
func (p *plant) sound(d *storagetest.Disk, head []byte) (newest []byte, state custody.Verdict, wrong []string) {
	t := under(d.Files(), p.device.ID())
	if unborn(t) {
		return nil, "", nil
	}
	r, err := p.verify(t.fs(), custody.Options{Device: p.device.ID(), DeviceKey: p.device.Verifier(), Head: head})
	if err != nil {
		return nil, "", []string{"no verdict: " + err.Error()}
	}
	for _, f := range facts(r) {
		if f.state != custody.VerdictClean && f.state != custody.VerdictCut {
			wrong = append(wrong, fmt.Sprintf("%s is %s by %s", f.file, f.state, f.rule))
		}
	}
	if r.Head != nil {
		newest = []byte(r.Head.Text)
	}
	return newest, r.State, wrong
}

// unborn tells a vault whose first start was cut: nothing was signed and nothing recorded, so
// there is nothing to verify, and verify says that the log is missing.
func unborn(t tree) bool {
	return len(t[logFile]) == 0 && t[slotFiles[0]] == nil && t[slotFiles[1]] == nil && len((&subject{files: t}).records()) == 0
}

// cutStart starts the recorder into a power cut.
func (p *plant) cutStart(d *storagetest.Disk, seed uint64) {
	now := time.Duration(0)
	if v, err := p.start(d, &now, seed+3); err == nil {
		_ = v.Close() // cut or not
	}
}

// goOn starts the recorder again and records.
func (p *plant) goOn(d *storagetest.Disk, seed uint64) (second *pilot, wrong []string) {
	d.SetFree(1 << 40) // the operator has made room
	now := time.Duration(0)
	v, err := p.start(d, &now, seed+1)
	if err != nil {
		return nil, []string{"the next start fails: " + err.Error()}
	}
	second = &pilot{v: v, now: &now, base: 1 << 32, next: 1 << 32, durable: 1 << 32, ends: func(error) bool { return true }}
	if err := second.run(phase{vault.Flight, time.Second}); err != nil {
		return second, []string{"recording does not go on: " + err.Error()}
	}
	if err := v.Close(); err != nil {
		return second, []string{"the next record is not closed: " + err.Error()}
	}
	return second, nil
}

// lost opens everything and compares: of the first run what was promised, of the second all.
func (p *plant) lost(files map[string][]byte, promised uint64, first, second *pilot) []string {
	got, err := readEntries(files, p.crew.identity)
	if err != nil {
		return []string{"it cannot be opened: " + err.Error()}
	}
	n := uint64(0)
	for len(got) > 0 && got[0] == n && n < first.next {
		got, n = got[1:], n+1
	}
	if n < promised {
		return []string{fmt.Sprintf("of %d entries that were promised %d are there", promised, n)}
	}
	if second == nil {
		return nil
	}
	for n = second.base; len(got) > 0 && got[0] == n; n++ {
		got = got[1:]
	}
	if n != second.next || len(got) > 0 {
		return []string{fmt.Sprintf("of %d entries behind the cut %d are there, and %d that do not belong", second.next-second.base, n-second.base, len(got))}
	}
	return nil
}

// Power makes n cuts and a control without syncs.
func Power(ctx context.Context, n int, seed uint64, progress func(done, all int)) (*Battery, error) {
	return power(ctx, n, seed, custody.Verify, progress)
}

func power(ctx context.Context, n int, seed uint64, v verify, progress func(done, all int)) (*Battery, error) {
	p, err := newPlant(seed, v)
	if err != nil {
		return nil, err
	}
	points, err := p.points(seed)
	if err != nil {
		return nil, err
	}
	b := &Battery{Name: "power", Seed: seed}
	rng := rand.New(rand.NewPCG(seed, 3))
	cuts := points.choose(rng, n, seed)
	control := max(16, n/8)
	for i, c := range cuts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.add(Case{Category: c.category(), Name: c.name(), Want: "clean or cut, nothing lost that was promised, recording goes on", Wrong: p.do(c)})
		progress(i+1, len(cuts)+control)
	}
	b.Notes = append(b.Notes, fmt.Sprintf("%d named points, each cut at least once", len(points.byName)))
	return b, p.control(ctx, b, points, rng, control, func(i int) { progress(len(cuts)+i, len(cuts)+control) })
}

// control makes cuts on a medium that ignores syncs. It must lose what was promised, or the
// battery would prove nothing.
func (p *plant) control(ctx context.Context, b *Battery, points *points, rng *rand.Rand, n int, progress func(int)) error {
	seen := 0
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := points.random(rng, b.Seed+uint64(i))
		c.mode, c.ignoreSync = storagetest.Random, true
		if len(p.do(c)) > 0 {
			seen++
		}
		progress(i + 1)
	}
	c := Case{Category: "control without fdatasync", Name: fmt.Sprintf("%d cuts on a medium that ignores syncs", n), Want: "at least half lose what was promised"}
	if 2*seen < n || n == 0 {
		c.Wrong = []string{fmt.Sprintf("only %d of %d lost something", seen, n)}
	}
	b.Notes = append(b.Notes, fmt.Sprintf("control without fdatasync: %d of %d cuts lost what was promised", seen, n))
	b.add(c)
	return nil
}

func (c cut) category() string {
	if c.trouble == noTrouble {
		return "cut, medium " + map[storagetest.CrashMode]string{storagetest.Strict: "keeps what was synced", storagetest.Random: "keeps any part, in any order", storagetest.KeepAll: "keeps all"}[c.mode]
	}
	return "cut, " + string(c.trouble)
}

func (c cut) name() string {
	s := fmt.Sprintf("seed %d, operation %d (%s)", c.seed, c.at, c.point)
	if c.trouble != noTrouble {
		s += fmt.Sprintf(", trouble %d before", c.before)
	}
	if c.again > 0 {
		s += fmt.Sprintf(", the next start cut at operation %d", c.again)
	}
	return s
}

// points are the operations of an uncut run, by what they are.
type points struct {
	ops    int
	names  []string // of operation i+1
	byName map[string][]int
}

// points runs the program once without a cut, and checks that it is right.
func (p *plant) points(seed uint64) (*points, error) {
	d, first, _, err := p.record(cut{seed: seed, trouble: noTrouble})
	if err != nil {
		return nil, fmt.Errorf("the run without a cut: %w", err)
	}
	if wrong := p.lost(d.Files(), first.next, first, nil); len(wrong) > 0 {
		return nil, fmt.Errorf("the run without a cut: %s", wrong[0])
	}
	pts := &points{ops: d.Ops(), byName: map[string][]int{}}
	for i, op := range d.OpNames() {
		name := pointName(op)
		pts.names = append(pts.names, name)
		pts.byName[name] = append(pts.byName[name], i+1)
	}
	return pts, nil
}

// pointName is an operation without what differs from record to record.
func pointName(op string) string {
	words := strings.Fields(op)
	for i, w := range words[1:] {
		parts := strings.Split(w, "/")
		if len(parts) > 1 && len(parts[1]) == 9 && custody.IsRecord(parts[1]) {
			parts[1] = "record"
		}
		if len(parts) > 2 && len(parts[2]) > 7 && custody.IsSegment(parts[2][:7]) {
			parts[2] = "segment" + parts[2][7:]
		}
		words[i+1] = strings.Join(parts[min(1, len(parts)-1):], "/")
	}
	return strings.Join(words, " ")
}

var (
	modes    = []storagetest.CrashMode{storagetest.Random, storagetest.Strict, storagetest.KeepAll}
	troubles = []trouble{noTrouble, noTrouble, oneEIO, oneENOSPC, noTrouble, noSpace, readOnly}
)

// choose returns at least n cuts: each named point once, and then random ones.
func (p *points) choose(rng *rand.Rand, n int, seed uint64) (cuts []cut) {
	for _, at := range inOrder(p.byName) {
		cuts = append(cuts, p.cut(at[rng.IntN(len(at))], modes[len(cuts)%2], noTrouble, rng, seed))
	}
	for i := len(cuts); i < n; i++ {
		c := p.random(rng, seed+uint64(i%5))
		c.mode, c.trouble = modes[i%len(modes)], troubles[i%len(troubles)]
		if i%2 == 0 {
			c.again = 1 + rng.IntN(40)
		}
		cuts = append(cuts, c)
	}
	return cuts
}

func (p *points) random(rng *rand.Rand, seed uint64) cut {
	return p.cut(2+rng.IntN(p.ops-1), storagetest.Random, noTrouble, rng, seed)
}

func (p *points) cut(at int, mode storagetest.CrashMode, t trouble, rng *rand.Rand, seed uint64) cut {
	return cut{seed: seed, mode: mode, at: at, trouble: t, before: 1 + rng.IntN(min(40, max(1, at-1))), point: p.names[at-1]}
}
