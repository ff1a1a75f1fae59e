package vault_test

import (
	"bytes"
	"fmt"
	"io"

	"path"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// verify checks the vault without any key that opens something: nothing that the vault writes,
// wherever it is cut and whatever fails, may look like the work of a hand.
func verify(files map[string][]byte) (*custody.Report, error) {
	fsys := fstest.MapFS{}
	for name, data := range files {
		if inside, ok := strings.CutPrefix(name, device+"/"); ok {
			fsys[inside] = &fstest.MapFile{Data: data, Mode: 0o600}
		}
	}
	rep, err := custody.Verify(fsys, custody.Options{Device: device, DeviceKey: devicePub, Readme: []byte(vault.Readme)})
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	for _, f := range rep.Findings {
		if f.State != custody.VerdictCut {
			return rep, fmt.Errorf("verify: %+v %d", f, f.Leaf)
		}
	}
	for _, r := range rep.Records {
		if r.State.Worse(custody.VerdictCut) == custody.VerdictCut {
			continue
		}
		return rep, fmt.Errorf("verify: %s is %s: %s %+v", r.Record, r.State, r.Why, r)
	}
	return rep, nil
}

// leaves returns what the log of a vault says.
func leaves(t testing.TB, files map[string][]byte) (all []custody.Entry) {
	t.Helper()
	r := custody.NewReader(bytes.NewReader(files[device+"/LOG/log.bin"]))
	for {
		l, err := r.Next()
		if err == io.EOF {
			return all
		}
		must(t, err)
		e, err := l.Entry()
		must(t, err)
		all = append(all, e)
	}
}

// of returns the leaves of one kind.
func of[E custody.Entry](all []custody.Entry) (found []E) {
	for _, e := range all {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

// newest returns the newest checkpoint.
func newest(t testing.TB, files map[string][]byte) (c *custody.Checkpoint) {
	t.Helper()
	for _, slot := range []string{"cp.A", "cp.B"} {
		if p, err := custody.ParseCheckpoint(files[device+"/LOG/"+slot]); err == nil && (c == nil || p.Size > c.Size || p.Size == c.Size && p.T > c.T) {
			c = p
		}
	}
	if c == nil {
		t.Fatal("no checkpoint")
	}
	return c
}

// TestLogOfADay: what the log says of a day without any failure, and that it is signed.
func TestLogOfADay(t *testing.T) {
	d, now := storagetest.New(1), &clock{}
	v := mustOpen(t, config(d, now))
	r := newRig(v, now, 1, 0)
	must(t, r.run(flightDay...))
	must(t, v.Close())
	files := d.Files()
	all := leaves(t, files)
	rep, err := verify(files)
	must(t, err)
	if rep.State != custody.VerdictClean || rep.UnsignedTail != 0 || len(rep.Records) != 3 {
		t.Errorf("the verdict is %s, %d leaves are not signed, %d records", rep.State, rep.UnsignedTail, len(rep.Records))
	}
	k, o, c, z := of[*custody.FlightKey](all), of[*custody.Opened](all), of[*custody.Closed](all), of[*custody.Ended](all)
	if len(k) != 3 || len(z) != 3 || len(o) != len(c) || len(of[*custody.Lost](all)) != 0 || len(of[*custody.Recovered](all)) != 0 {
		t.Errorf("%d K, %d O, %d C, %d Z", len(k), len(o), len(c), len(z))
	}
	frames, lines := int64(0), int64(0)
	for _, e := range c {
		if e.Segment[0] == 'X' {
			lines += e.Frames
			continue
		}
		frames += e.Frames
		if e.To < e.From || e.To-e.From > 11e6 {
			t.Errorf("%s/%s spans %d to %d", e.Record, e.Segment, e.From, e.To)
		}
	}
	if frames != int64(r.next) || lines != int64(r.lines) || lines == 0 {
		t.Errorf("leaves C count %d frames and %d lines, want %d and %d", frames, lines, r.next, r.lines)
	}
	_, to := crew()
	for _, e := range k {
		if e.Recipients[0] != custody.Fingerprint([]byte("0123456789abcdef"), to.Strings()[0]) || e.Policy != (custody.Policy{FlushArmedUsec: 200_000, FlushIdleUsec: 900_000, Record: "always", WhenFull: "stop"}) {
			t.Errorf("leaf K: %+v", e)
		}
	}
	w, err := look(files)
	must(t, err)
	for _, h := range w.headers {
		if h.RecipientSalt != "30313233343536373839616263646566" {
			t.Errorf("sealed salt %q", h.RecipientSalt)
		}
	}
}

// TestCheckpointPace: one each second while armed, where something changed, else each ten; and the
// open lines name what is durable.
func TestCheckpointPace(t *testing.T) {
	for _, tt := range []struct {
		kind        vault.Kind
		least, most int
	}{{vault.Flight, 8, 13}, {vault.Ground, 0, 3}} {
		d, now := storagetest.New(1), &clock{}
		v := mustOpen(t, config(d, now))
		r := newRig(v, now, 1, 0)
		r.want = tt.kind
		v.SetArmed(tt.kind == vault.Flight)
		signed := 0
		counts := func(until time.Duration) {
			for now.now < until {
				must(t, r.tick())
			}
		}
		counts(500 * time.Millisecond)
		d.SetOnOp(func(name string) {
			if strings.HasPrefix(name, "replace") {
				signed++
			}
		})
		counts(9500 * time.Millisecond)
		if signed < tt.least || signed > tt.most {
			t.Errorf("%s: %d checkpoints in 9 s, want %d to %d", tt.kind, signed, tt.least, tt.most)
		}
		if tt.kind == vault.Flight {
			files := d.Crash(storagetest.Strict).Files()
			open := newest(t, files).Open
			if len(open) != 2 || open[0].Name != "T000001.open.age" || open[1].Name != "X000001.open.age" {
				t.Fatalf("open lines %+v", open)
			}
			for _, o := range open {
				if size := int64(len(files[device+"/"+o.Record+"/"+o.Name])); size < o.Bytes || o.Bytes == 0 {
					t.Errorf("the checkpoint names %d bytes of %d", o.Bytes, size)
				}
			}
		}
		must(t, v.Close())
	}
}

// TestEpochs: each minute has its key, also one in which nothing is recorded.
func TestEpochs(t *testing.T) {
	d, now := storagetest.New(1), &clock{now: 5 * time.Second}
	v := mustOpen(t, config(d, now))
	for range 5 * 60 {
		now.now += time.Second
		for v.Step() {
		}
	}
	files := d.Files()
	if n := len(of[*custody.Epoch](leaves(t, files))); n != 5 {
		t.Errorf("%d leaves E after 5 minutes", n)
	}
	if _, err := verify(files); err != nil {
		t.Error(err)
	}
	if c := newest(t, files); c.Epoch != 5 {
		t.Errorf("the newest checkpoint is of epoch %d", c.Epoch)
	}
	must(t, v.Close())
}

// TestNumbersNeverRepeat: a number is used once, also where all records were removed by hand, and
// where somebody put folders there.
func TestNumbersNeverRepeat(t *testing.T) {
	d, now := storagetest.New(1), &clock{}
	next := func(want int) {
		t.Helper()
		v := mustOpen(t, config(d, now))
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		if got := v.Record().Number; got != want {
			t.Errorf("record %d, want %d", got, want)
		}
		must(t, v.Append(&segment.Block{Data: entries(0, 5)}))
		must(t, v.Close())
	}
	next(1)
	next(2)
	for i := range 2 {
		dir := fmt.Sprintf("%s/F%08d", device, i+1)
		entries, err := d.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			must(t, d.Remove(dir+"/"+e.Name()))
		}
		must(t, d.Remove(dir))
	}
	next(3)
	must(t, d.Mkdir(device+"/G00000007"))
	must(t, d.Mkdir(device+"/F99999999")) // somebody's joke
	next(8)
	undone := of[*custody.Lost](leaves(t, d.Files()))
	if len(undone) != 4 || undone[3].Record != "G00000007" || undone[3].Why != custody.WhyUndone {
		t.Errorf("%d leaves X", len(undone))
	}
	rep, _ := verify(d.Files())
	if rep.State != custody.VerdictMissing {
		t.Errorf("records were removed by hand, and the verdict is %s", rep.State)
	}
}

// TestLogIsShorter: a log that was cut by somebody is kept aside, said so, and gone on with; not
// again at each start.
func TestLogIsShorter(t *testing.T) {
	for _, keep := range []int{0, 100, 3000} {
		d, now := storagetest.New(1), &clock{}
		cfg := config(d, now)
		v := mustOpen(t, cfg)
		must(t, newRig(v, now, 1, 0).run(phase{vault.Flight, time.Second}))
		must(t, v.Close())
		var old []byte
		must(t, d.Corrupt(device+"/LOG/log.bin", func(p []byte) []byte { old = p[:keep]; return p[:keep] }))
		for i := range 3 {
			v = mustOpen(t, cfg)
			must(t, v.Begin(vault.Ground, vault.RecordID{}))
			if got := v.Record().Number; got != i+2 {
				t.Errorf("record %d, want %d", got, i+2)
			}
			must(t, v.Close())
		}
		files := d.Files()
		if got := files[device+"/LOG/log.bad.1"]; !bytes.Equal(got, old) {
			t.Errorf("%d bytes are kept aside, want %d", len(got), keep)
		}
		if _, again := files[device+"/LOG/log.bad.2"]; again {
			t.Error("kept aside twice")
		}
		if rep, err := verify(files); err == nil {
			t.Errorf("the verdict is %s", rep.State)
		}
	}
}

// TestTornTail: what lies behind the last whole leaf is cut off, and leaf B says how much.
func TestTornTail(t *testing.T) {
	d, now := storagetest.New(1), &clock{}
	must(t, mustOpen(t, config(d, now)).Close())
	must(t, d.Corrupt(device+"/LOG/log.bin", func(p []byte) []byte { return append(p, 0, 0, 1, 2, 'K', '{') }))
	must(t, mustOpen(t, config(d, now)).Close())
	boots := of[*custody.Boot](leaves(t, d.Files()))
	if len(boots) != 2 || boots[1].Torn != 6 {
		t.Errorf("%+v", boots)
	}
	if _, err := verify(d.Files()); err != nil {
		t.Error(err)
	}
}

// TestLogRefused: a medium that takes no byte of the log for some seconds costs no entry, and the
// log is whole in the end.
func TestLogRefused(t *testing.T) {
	for _, what := range []string{"write", "sync", "replace", "truncate", ""} {
		d, now := storagetest.New(2), &clock{}
		v := mustOpen(t, config(watch(t, d), now))
		r := newRig(v, now, 1, 0)
		refused := 0
		d.SetOnOp(func(name string) {
			at := now.now > 500*time.Millisecond && now.now < 8*time.Second
			if at && strings.Contains(name, "/LOG/") && strings.HasPrefix(name, what) {
				d.FailAt(1, syscall.EIO)
				refused++
			}
		})
		must(t, r.run(phase{vault.Ground, 3 * time.Second}, phase{vault.Flight, 12 * time.Second}))
		must(t, v.Close())
		if refused == 0 && what != "truncate" { // which follows another failure
			t.Errorf("%q: nothing was refused", what)
		}
		if r.faults > 0 {
			t.Errorf("%q: %d faults reached the recorder", what, r.faults)
		}
		w, err := check(d.Crash(storagetest.Strict).Files(), all, r)
		if err != nil {
			t.Errorf("%q: %v", what, err)
		}
		if rep, err := verify(d.Files()); err != nil || rep.State != custody.VerdictClean {
			t.Errorf("%q: the verdict is %v, %v", what, rep.State, err)
		}
		_ = w
	}
}

// TestDeletionIsSaidFirst cuts the making of room at each operation: no file of a record goes
// before the log says so, and what a cut left of it goes at the next start.
func TestDeletionIsSaidFirst(t *testing.T) {
	fill := func(seed uint64) (*storagetest.Disk, vault.Config, *vault.Vault) {
		d := storagetest.New(seed)
		cfg := config(watch(t, d), &clock{})
		cfg.WhenFull = "oldest"
		v := mustOpen(t, cfg)
		for i := range 4 {
			must(t, v.Begin(vault.Flight, vault.RecordID{}))
			must(t, v.Append(&segment.Block{Data: entries(uint64(i)*10, uint64(i)*10+10), Noise: noise(100 << 10)}))
			must(t, v.Flush())
		}
		for v.Step() {
		}
		d.SetFree(2*vault.MinFree - 250<<10)
		must(t, v.Room()) // room enough
		d.SetFree(vault.MinFree - 1)
		return d, cfg, v
	}
	d, _, v := fill(0)
	before := d.Ops()
	must(t, v.Room())
	ops := d.Ops() - before
	if ops < 10 {
		t.Fatalf("%d operations", ops)
	}
	for at := 1; at <= ops; at += stride() {
		d, cfg, v := fill(uint64(at))
		d.CrashAt(at)
		_ = v.Room()
		for _, mode := range []storagetest.CrashMode{storagetest.Strict, storagetest.Random, storagetest.Random} {
			c := d.Crash(mode)
			if _, err := verify(c.Files()); err != nil {
				t.Errorf("cut at %d: %v", at, err)
			}
			cfg.FS = c
			must(t, mustOpen(t, cfg).Close())
			files := c.Files()
			if _, err := verify(files); err != nil {
				t.Errorf("cut at %d, after the next start: %v", at, err)
			}
			for _, x := range of[*custody.Lost](leaves(t, files)) {
				for name := range files {
					if x.Why == custody.WhyDeleted && path.Base(path.Dir(name)) == x.Record {
						t.Errorf("cut at %d: %s is still there after the next start", at, name)
					}
				}
			}
		}
	}
}
