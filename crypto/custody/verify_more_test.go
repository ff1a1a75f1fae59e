package custody_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"holdfast/crypto/custody"
)

// TestUnsignedIsNeverShownAsGood: systemd-journald showed lines behind the last seal as verified
// (CVE-2023-31438). Here all that no signature covers is cut, or unsigned, and never clean.
func TestUnsignedIsNeverShownAsGood(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(b *built)
		record string
		want   custody.Verdict
	}{
		{"a record that only the tail names", func(b *built) { // no checkpoint follows it
			r := b.begin('F')
			b.close(r, b.segment(r, 100))
			b.end(r)
		}, "F00000002", custody.VerdictCut},
		{"the same behind a broken signature", func(b *built) {
			b.key = nil
			b.newKey()
			r := b.begin('F')
			b.tick(anEpoch)
			b.close(r, b.segment(r, 100))
			b.end(r)
		}, "F00000002", custody.VerdictUnsigned},
		{"a log that the device key never signed", func(b *built) {
			b.device = b.other()
			b.put("LOG/device.pub", []byte(b.device.Verifier()+"\n"))
			b.id = b.device.ID()
		}, "G00000001", custody.VerdictUnsigned},
		{"no log at all", func(b *built) { delete(b.files, logName) }, "G00000001", custody.VerdictUnsigned},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := build(t)
			b.start()
			b.record('G', 1)
			tt.spoil(b)
			r := b.verify()
			i := slices.IndexFunc(r.Records, func(r *custody.RecordReport) bool { return r.Record == tt.record })
			if i < 0 || r.Records[i].State != tt.want {
				t.Errorf("%+v\n%s", r.Records, lines(said(r)))
			}
			if r.State == custody.VerdictClean || r.State.Worse(tt.want) != r.State {
				t.Errorf("the whole is %s", r.State)
			}
		})
	}
}

// TestEpochsAreContiguous: systemd-journald let seals be left out (CVE-2023-31439). Here each
// epoch has its leaf E, and what lies in an epoch without one is not believed.
func TestEpochsAreContiguous(t *testing.T) {
	b := build(t)
	b.start()
	b.tick(5*anEpoch + 1)
	b.record('F', 1)
	if r := b.verify(); r.State != custody.VerdictClean || r.Leaves != 2+5+4 {
		t.Fatalf("%s, %d leaves: %s", r.State, r.Leaves, lines(said(r)))
	}
	for skip := range int64(5) { // leaf E of one epoch is taken out, all others are as they were signed
		cut := b.offsets[2+skip]
		log := append(slices.Clone(b.log[:cut]), b.log[b.offsets[3+skip]:]...)
		files := fstest.MapFS{}
		for name, f := range b.files {
			files[name] = f
		}
		files[logName] = &fstest.MapFile{Data: log}
		r := verify(t, files, func(o *custody.Options) { o.DeviceKey = b.device.Verifier() })
		if r.State != custody.VerdictTampered || r.Proven > 2+skip || !slices.ContainsFunc(r.Findings, func(f custody.Finding) bool {
			return f.Rule == "V3" && f.State == custody.VerdictTampered && *f.Leaf == 2+skip && *f.Byte == cut
		}) {
			t.Errorf("epoch %d taken out: %s, %d proven: %s", skip+1, r.State, r.Proven, lines(said(r)))
		}
	}
}

// TestEpochBoundary: the log ends with the leaf E that begins an epoch, and nothing in it.
func TestEpochBoundary(t *testing.T) {
	for _, usec := range []int64{anEpoch - 1, anEpoch, anEpoch + 1, 3 * anEpoch} {
		b := build(t)
		b.start()
		b.record('F', 1)
		b.now = b.started
		b.tick(usec)
		if b.epoch == 0 { // a checkpoint in the last microsecond of an epoch
			b.checkpoint()
		}
		r := b.verify()
		if r.State != custody.VerdictClean || r.Proven != r.Leaves {
			t.Errorf("%d: %s, %d of %d: %s", usec, r.State, r.Proven, r.Leaves, lines(said(r)))
		}
	}
}

// TestBootInTheMiddle: times begin anew, the record of the boot before is named by R, and its
// open form is as R found it.
func TestBootInTheMiddle(t *testing.T) {
	b := build(t)
	b.start()
	b.record('G', 1)
	b.tick(100 * aSecond)
	cut := b.cut()
	b.now = 2 * aSecond
	b.start()
	b.record('G', 2)
	r := b.verify()
	if r.State != custody.VerdictCut || r.Boots != 2 || r.Proven != r.Leaves {
		t.Fatalf("%+v %s", r, lines(said(r)))
	}
	rec := r.Records[1]
	if rec.Record != cut || rec.State != custody.VerdictCut || rec.Segments[0].ProvenBytes != 70_500 || rec.Segments[0].PlaceBytes != 70_500 {
		t.Errorf("%+v", rec)
	}
}

// TestCutAtEachStep builds a vault step by step as format section 4 orders the writes, and cuts
// after each: nothing is ever worse than cut, and nothing that had not ended is clean.
func TestCutAtEachStep(t *testing.T) {
	b := build(t)
	steps := 0
	look := func(step string) {
		steps++
		r := b.verify()
		if verdict := r.State; verdict != custody.VerdictClean && verdict != custody.VerdictCut {
			t.Errorf("after %s: %s\n%s", step, verdict, lines(said(r)))
		}
		if len(b.live) > 0 && r.State != custody.VerdictCut {
			t.Errorf("after %s: %s, and %s had not ended", step, r.State, b.live)
		}
		if r := b.verify(func(o *custody.Options) { o.InUse = true }); r.State != custody.VerdictClean && r.State != custody.VerdictOpen {
			// What an earlier cut left stays cut.
			if b.boot == 1 {
				t.Errorf("in use, after %s: %s\n%s", step, r.State, lines(said(r)))
			}
		}
	}
	b.put(logName, nil)
	look("an empty log")
	whole := func(step string, f func()) {
		before := len(b.log)
		f()
		if after := b.log; len(after) > before { // leaves are torn, then there
			for _, n := range []int{before + 1, (before + len(after)) / 2, len(after) - 1} {
				b.put(logName, after[:n])
				look(step + ", torn")
			}
			b.put(logName, append(slices.Clone(after[:before]), make([]byte, len(after)-before)...))
			look(step + ", zeros")
			b.put(logName, after)
		}
		look(step)
	}
	torn := func() {
		name := []string{"LOG/cp.A", "LOG/cp.B"}[b.slot]
		old := b.files[name]
		b.checkpoint()
		now := b.data(name)
		half := slices.Clone(now)
		if old == nil {
			half = half[:len(half)/2]
		} else {
			copy(half[len(half)/2:], old.Data[min(len(half)/2, len(old.Data)):])
		}
		b.put(name, half)
		look("checkpoint, torn")
		b.put(name, now)
		look("checkpoint")
	}
	whole("B", func() { b.startWith(custody.Boot{Boot: 1, Slots: "none", V: 1}) })
	whole("L", b.lock)
	torn()
	for range 2 {
		// A record begins: folder, key, first segment, and only then its leaves.
		r := "F0000000" + string(rune('0'+b.next))
		b.put(r+"/flight.key.age", []byte("half a key"))
		look("the folder")
		b.put(r+"/T000001.open.age", b.bytes(300))
		look("the first segment's header")
		whole("K", func() { b.keyLeaf(r) })
		pub := b.data(r + "/flight.pub")
		for _, p := range [][]byte{nil, pub[:9], make([]byte, len(pub))} {
			b.put(r+"/flight.pub", p)
			look("flight.pub not synced")
		}
		delete(b.files, r+"/flight.pub")
		look("flight.pub not there")
		b.put(r+"/flight.pub", pub)
		whole("O", func() { b.segment(r, 300) })
		torn()
		b.grow(r, "T000001", 70_000)
		look("a flush")
		b.durable(r, "T000001")
		torn()
		// The segment is closed, the next begun.
		b.put(r+"/T000002.open.age", b.bytes(300))
		look("the next segment's header")
		whole("O of the next", func() { b.segment(r, 300) })
		b.put(r+"/T000001.age.tmp", b.bytes(100))
		look("the closed form, half")
		open := b.data(r + "/T000001.open.age")
		delete(b.files, r+"/T000001.age.tmp")
		b.put(r+"/T000001.age", b.bytes(2000))
		look("renamed")
		whole("C", func() { b.close(r, "T000001"); b.put(r+"/T000001.open.age", open) })
		torn()
		delete(b.files, r+"/T000001.open.age")
		look("open form removed")
		open = b.data(r + "/T000002.open.age")
		whole("C of the next", func() { b.close(r, "T000002"); b.put(r+"/T000002.open.age", open) })
		torn()
		delete(b.files, r+"/T000002.open.age")
		whole("Z", func() { b.end(r) })
		torn()
	}
	// Deletion.
	whole("X deleted", func() { b.lost("deleted", "F00000001", "") })
	b.deleting = []string{"F00000001"}
	torn()
	delete(b.files, "F00000001/T000001.age")
	look("half deleted")
	b.drop("F00000001")
	look("deleted")
	b.deleting = nil
	torn()
	// A cut record, and a start after it.
	b.cut()
	b.now = aSecond
	whole("B", func() { b.startWith(custody.Boot{Boot: 2, Slots: "good", Signed: 1, V: 1}) })
	whole("R", func() { b.recover("G00000003") })
	whole("L", b.lock)
	torn()
	r := b.begin('G')
	s := b.segment(r, 70_000)
	torn()
	whole("X failed", func() { b.lost("failed", r, s) })
	b.close(r, b.segment(r, 100))
	b.end(r)
	look("Z behind a failed segment")
	torn()
	if steps < 100 {
		t.Errorf("%d steps only", steps)
	}
}

// TestOpenedPart: how much of a file belongs into an opened record.
func TestOpenedPart(t *testing.T) {
	b := build(t)
	b.start()
	failed := b.begin('G')
	s := b.segment(failed, 70_000)
	b.lost("failed", failed, s)
	b.end(failed)
	b.grow(failed, s, 900) // behind what X failed names, in a record that has ended
	r := b.cut()
	bad := b.record('F', 1)
	b.flip(bad+"/T000001.age", 3)
	want := map[string][3]int64{failed: {70_900, 70_000, 70_000}, r: {70_500, 70_000, 70_500}, bad: {2000, 0, 0}}
	for _, rec := range b.verify().Records {
		s := rec.Segments[0]
		if got := [3]int64{s.Bytes, s.ProvenBytes, s.PlaceBytes}; got != want[rec.Record] {
			t.Errorf("%s: %v, want %v (%+v)", rec.Record, got, want[rec.Record], s)
		}
		if (s.TailBytes > 0) != (rec.Record == r) {
			t.Errorf("%s: tail of %d bytes", rec.Record, s.TailBytes)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	b := good(t)
	name := "F00000002/flight.key.age"
	want := b.data(name)
	delete(b.files, name)
	r := b.verify()
	for _, rec := range r.Records {
		files, err := custody.KeyFiles(b.files, rec)
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v", rec.Record, err)
		}
		if rec.Record == "F00000002" && !bytes.Equal(files[0].Data, want) {
			t.Error("another key")
		}
	}
	b.flip(logName, int(b.offsets[2])+60)
	if _, err := custody.KeyFiles(b.files, r.Records[0]); err == nil {
		t.Error("a key from a log that has changed")
	}
}

// TestGroupsVerify: a record with key groups is as clean as one without, and so is one that a cut
// ended while their recipients were being written.
func TestGroupsVerify(t *testing.T) {
	b := build(t)
	b.start()
	b.grouped("A", "PV")
	b.put("F00000001/flight.VP.key.age", []byte("a name that is not of the format"))
	if r := b.verify(); r.State != custody.VerdictClean || len(r.Records[0].Findings) > 0 {
		t.Errorf("%s: %+v", r.State, r.Records[0].Findings)
	}
	b.keyLeaf("F00000002", "V")
	delete(b.files, "F00000002/flight.V.pub")
	b.checkpoint()
	r := b.verify()
	if r.State != custody.VerdictCut || len(r.Records[1].Findings) > 0 {
		t.Errorf("cut: %s: %+v", r.State, r.Records[1].Findings)
	}
	k, err := custody.KeyLeaf(b.files, r.Records[0])
	if err != nil || len(k.Groups) != 2 || k.Groups[1].Streams != "PV" {
		t.Errorf("leaf K: %+v, %v", k, err)
	}
}

// brokenFS fails where it is told to.
type brokenFS struct {
	fstest.MapFS
	name string
	at   int64
}

var errNoMedium = errors.New("input/output error")

func (f brokenFS) Open(name string) (fs.File, error) {
	file, err := f.MapFS.Open(name)
	if name != f.name || err != nil {
		return file, err
	}
	if f.at < 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNoMedium}
	}
	return brokenFile{file, io.LimitReader(file, f.at)}, nil
}

type brokenFile struct {
	fs.File
	r io.Reader
}

func (f brokenFile) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = errNoMedium
	}
	return n, err
}

// TestUnreadable: what the medium does not return is damaged, and not tampered.
func TestUnreadable(t *testing.T) {
	for _, name := range []string{"LOG/device.pub", "LOG/cp.A", logName, "README.txt", "F00000002/T000002.age", "F00000002/flight.key.age", "G00000003/T000001.open.age"} {
		for _, at := range []int64{-1, 40} {
			b := good(t)
			r := verify(t, brokenFS{b.files, name, at}, func(o *custody.Options) {
				o.DeviceKey, o.Readme = b.device.Verifier(), []byte(readMe)
			})
			want := custody.VerdictDamaged
			if name == "LOG/cp.A" { // one slot of two
				want = custody.VerdictCut
			}
			all := said(r)
			if name != logName && r.State != want || !slices.ContainsFunc(all, func(f custody.Finding) bool {
				return f.State == want && (f.File == name || strings.HasPrefix(name, "LOG"))
			}) || slices.ContainsFunc(all, func(f custody.Finding) bool { return f.State == custody.VerdictTampered }) {
				t.Errorf("%s at %d: %s\n%s", name, at, r.State, lines(all))
			}
		}
	}
}

// TestIrregular: a link or a pipe where a file should be is never read.
func TestIrregular(t *testing.T) {
	b := good(t)
	dir := t.TempDir()
	b.check(os.CopyFS(dir, b.files))
	name := filepath.Join(dir, "F00000002", "T000001.age")
	b.check(os.Rename(name, filepath.Join(dir, "moved")))
	if err := os.Symlink(filepath.Join(dir, "moved"), name); err != nil {
		t.Skip("no links here:", err)
	}
	r := verify(t, os.DirFS(dir), func(o *custody.Options) { o.DeviceKey = b.device.Verifier() })
	if r.State != custody.VerdictTampered {
		t.Errorf("%s\n%s", r.State, lines(said(r)))
	}
}

func TestStop(t *testing.T) {
	b := good(t)
	stop := errors.New("enough")
	asked := 0
	_, err := custody.Verify(b.files, custody.Options{Stop: func() error {
		if asked++; asked > 3 {
			return stop
		}
		return nil
	}})
	if !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

// TestInUse: what a recorder holds is open; a slot that is being written is no fault.
func TestInUse(t *testing.T) {
	b := build(t)
	b.start()
	b.record('G', 1)
	b.cut()
	b.flip("LOG/cp.A", 9)
	b.put(logName, append(b.log, 1, 2, 3))
	r := b.verify(func(o *custody.Options) { o.InUse = true })
	if r.State != custody.VerdictOpen || r.Records[1].State != custody.VerdictOpen {
		t.Errorf("%s\n%s", r.State, lines(said(r)))
	}
}
