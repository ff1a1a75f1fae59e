package storagetest_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// program is a recorder in small: it appends to segments, syncs, rotates by rename, and
// notes what it was promised.
type program struct {
	fsys     vault.FS
	promised map[string]int // durable bytes of each name
	gone     []string       // names that were given up durably
}

const (
	segments = 40
	flushes  = 23 // about 2,000 operations with 40 segments
)

var load = bytes.Repeat([]byte("holdfast"), 2200/8)

// run works until it is done or something fails.
func (p *program) run() error {
	if err := p.fsys.Mkdir("d"); err != nil {
		return err
	}
	if err := p.fsys.SyncDir("."); err != nil {
		return err
	}
	for i := range segments {
		if err := p.segment(i); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) segment(i int) error {
	open, done := fmt.Sprintf("d/T%d.open", i), fmt.Sprintf("d/T%d", i)
	f, err := p.fsys.Create(open)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.fsys.SyncDir("d"); err != nil {
		return err
	}
	for n := range flushes {
		if _, err := f.Write(load); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		p.promised[open] = (n + 1) * len(load)
	}
	size := p.promised[open]
	delete(p.promised, open) // from here on it may have either name
	if err := p.fsys.Rename(open, done); err != nil {
		return err
	}
	if err := p.fsys.SyncDir("d"); err != nil {
		return err
	}
	p.promised[done] = size
	p.gone = append(p.gone, open)
	return nil
}

// check says which promise the medium broke.
func (p *program) check(files map[string][]byte) error {
	for name, size := range p.promised {
		data := files[name]
		if len(data) < size {
			return fmt.Errorf("%s has %d bytes of %d", name, len(data), size)
		}
		for i := 0; i < size; i += len(load) {
			if !bytes.Equal(data[i:i+len(load)], load) {
				return fmt.Errorf("%s differs after byte %d", name, i)
			}
		}
	}
	for _, name := range p.gone {
		if _, ok := files[name]; ok {
			return fmt.Errorf("%s is back", name)
		}
	}
	return nil
}

// cut runs the program into a power cut at a random operation and checks what is found.
func cut(seed uint64, mode storagetest.CrashMode, ignoreSync bool) (ops int, err error) {
	d := storagetest.New(seed)
	d.IgnoreSync(ignoreSync)
	p := &program{fsys: d, promised: map[string]int{}}
	d.CrashAt(1 + rand.New(rand.NewPCG(seed, 1)).IntN(2000))
	if err := p.run(); !errors.Is(err, storagetest.ErrPowerCut) {
		return d.Ops(), fmt.Errorf("the program ended with %v, not with the power cut", err)
	}
	return d.Ops(), p.check(d.Crash(mode).Files())
}

func TestProgramKeepsItsPromises(t *testing.T) {
	most := 0
	for seed := range uint64(60) {
		for _, mode := range []storagetest.CrashMode{storagetest.Strict, storagetest.Random} {
			ops, err := cut(seed, mode, false)
			if err != nil {
				t.Fatalf("seed %d, mode %d, cut in operation %d: %v", seed, mode, ops, err)
			}
			most = max(most, ops)
		}
	}
	if most < 1800 {
		t.Errorf("the latest cut was in operation %d", most)
	}
}

// The control: without syncs the same program must lose data, nearly every time.
func TestProgramWithoutSyncsLosesData(t *testing.T) {
	for _, mode := range []storagetest.CrashMode{storagetest.Strict, storagetest.Random} {
		lost := 0
		for seed := range uint64(20) {
			if _, err := cut(seed, mode, true); err != nil {
				lost++
			}
		}
		if lost < 16 {
			t.Errorf("mode %d: only %d of 20 cuts lost data without syncs", mode, lost)
		}
	}
}

// BenchmarkCrashRun is one run of the program, about 2,000 operations and 2 MB, with its crash.
func BenchmarkCrashRun(b *testing.B) {
	for b.Loop() {
		d := storagetest.New(1)
		p := &program{fsys: d, promised: map[string]int{}}
		if err := p.run(); err != nil {
			b.Fatal(err)
		}
		d.Crash(storagetest.Random)
		b.ReportMetric(float64(d.Ops()), "ops/run")
	}
}

// BenchmarkCrash is the power cut alone, at the end of such a run.
func BenchmarkCrash(b *testing.B) {
	d := storagetest.New(1)
	p := &program{fsys: d, promised: map[string]int{}}
	if err := p.run(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		d.Crash(storagetest.Random)
	}
}
