package recorder_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/firmware/recorder"
	"holdfast/storage/segment"
)

// TestHeldOver: a medium refuses, its recorder ends, and the next one finds a medium that writes: what
// the first one held is in the record once, before what came later, with its noise and events.
func TestHeldOver(t *testing.T) {
	for name, c := range map[string]struct{ from, to int }{"from the start": {-1, 20}, "in the middle": {9, 20}, "a moment ago": {18, 20}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.cut = true
				var sent [][]byte
				feed := func(l *line, r *recorder.Recorder, from, to, bad int) {
					for i := from; i < to; i++ {
						if i == bad {
							b.disk.ReadOnly(true)
						}
						f := attitude(uint8(i), uint32(i))
						if i == 0 {
							f = own(0, true)
						}
						sent = append(sent, f)
						l.in <- append(slices.Clone(f), "noise"...)
						time.Sleep(500 * time.Millisecond)
					}
				}
				l := newLine(true)
				b.disk.ReadOnly(false)
				r, err := b.try(recorder.Config{}, l, func(r *recorder.Recorder) {
					b.disk.ReadOnly(c.from < 0)
					feed(l, r, 0, c.to, c.from)
				})
				if len(r.HeldOver()) == 0 {
					t.Fatalf("the medium refused, and nothing is held: %v", err)
				}
				b.disk.ReadOnly(false)
				l = newLine(true)
				b.record(recorder.Config{HeldOver: r.HeldOver()}, l, func(r *recorder.Recorder) { feed(l, r, c.to, 30, -1) })
				all := b.read()
				got, noise := total(all)
				equalFrames(t, got, sent)
				if want := strings.Repeat("noise", 30); string(noise) != want {
					t.Errorf("noise %q", noise)
				}
				var kinds []string
				for _, o := range all {
					kinds = append(kinds, o.events()...)
				}
				for _, want := range []string{"armed", "held_over"} {
					if n := count(kinds, want); n != 1 {
						t.Errorf("%d events %s in %v", n, want, kinds)
					}
				}
			})
		})
	}
}

// TestNothingHeldOver: where the medium keeps all, the next recorder gets nothing.
func TestNothingHeldOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		r, err := b.try(recorder.Config{}, l, func(*recorder.Recorder) { l.in <- own(0, true) })
		if err != nil || len(r.HeldOver()) != 0 {
			t.Errorf("%v, %d bytes held over", err, len(r.HeldOver()))
		}
	})
}

// TestHeldOverArmedOnly: on a board that records flights only, what is held on the ground goes before the
// next flight.
func TestHeldOverArmedOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		b.disk.ReadOnly(false)
		first, flight := []byte(nil), []byte(nil)
		r, _ := b.try(recorder.Config{ArmedOnly: true}, l, func(*recorder.Recorder) {
			first = attitude(1, 7)
			l.in <- first
			time.Sleep(2 * time.Second)
		})
		if len(r.HeldOver()) == 0 {
			t.Fatal("nothing held over")
		}
		l = newLine(true)
		b.record(recorder.Config{ArmedOnly: true, HeldOver: r.HeldOver()}, l, func(*recorder.Recorder) {
			time.Sleep(2 * time.Second)
			flight = own(2, true)
			l.in <- flight
			time.Sleep(2 * time.Second)
		})
		all := b.read()
		got, _ := total(all)
		equalFrames(t, got, [][]byte{first, flight})
		if len(all) != 1 || all[0].id[0] != 'F' {
			t.Errorf("records %v", ids(all))
		}
	})
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// FuzzHeldBlocks: whatever lies in the file, it is read or left out.
func FuzzHeldBlocks(f *testing.F) {
	enc, err := segment.NewEncoder()
	if err != nil {
		f.Fatal(err)
	}
	p, err := enc.Append(nil, &segment.Block{Meta: segment.Meta{Frames: 1}, Data: []byte("some data of a frame"), Noise: segment.AppendNoise(nil, segment.NoiseRun{Data: []byte("x")})})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add(p[:len(p)-3])
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, b := range recorder.HeldBlocks(p) {
			if b.Meta.Header != nil {
				t.Error("a block keeps the header of a segment that is gone")
			}
		}
	})
}
