package main

import (
	"bytes"
	"math"
	"testing"
	"time"

	"holdfast/mavlink"
	"holdfast/mavlink/tlog"
)

// checker looks at a feed as the recorder does.
type checker struct {
	frames, noise, armed int
	gaps                 mavlink.GapCounter
	last                 map[sender]uint8
	repeats              int
}

func (c *checker) Frame(f *mavlink.Frame) {
	c.frames++
	c.gaps.Observe(f)
	who := sender{f.System, f.Component}
	if seq, ok := c.last[who]; ok && seq == f.Seq {
		c.repeats++
	}
	c.last[who] = f.Seq
	if hb, ok := mavlink.DecodeHeartbeat(f); ok && hb.Armed() {
		c.armed++
	}
}

func (c *checker) Noise(n *mavlink.Noise) { c.noise += len(n.Data) }

// More frames than one flight has, so that the seam is in it.
func TestFeedHasNoGaps(t *testing.T) {
	for _, armed := range []bool{true, false} {
		f, err := newFeed(120_000, armed)
		if err != nil {
			t.Fatal(err)
		}
		c := &checker{last: map[sender]uint8{}}
		s := mavlink.NewScanner(c)
		s.Write(0, f.raw)
		s.End(0)
		if c.frames != 120_000 || c.noise != 0 || c.gaps.Total() != 0 || c.repeats != 0 {
			t.Errorf("armed %v: %d frames, %d noise, %d lost, %d repeats", armed, c.frames, c.noise, c.gaps.Total(), c.repeats)
		}
		if (c.armed > 0) != armed {
			t.Errorf("armed %v: %d heartbeats say armed", armed, c.armed)
		}
		if f.types < 40 {
			t.Errorf("%d types", f.types)
		}
	}
}

func TestCompare(t *testing.T) {
	f, err := newFeed(200, true)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := newFeed(200, false)
	if err != nil {
		t.Fatal(err)
	}
	strange := bytes.Clone(foreign.at(0))
	strange[4] = 99
	tests := []struct {
		name string
		log  func(add func([]byte))
		want outcome
	}{
		{"all", func(add func([]byte)) {
			for i := range 200 {
				add(f.at(i))
			}
		}, outcome{sent: 200, same: 200}},
		{"some missing in the middle and at the end", func(add func([]byte)) {
			for i := range 190 {
				if i < 50 || i >= 60 {
					add(f.at(i))
				}
			}
		}, outcome{sent: 200, same: 180, lost: 20}},
		{"one too many", func(add func([]byte)) {
			add(strange)
			for i := range 200 {
				add(f.at(i))
			}
		}, outcome{sent: 200, same: 200, falsey: 1}},
		{"nothing", func(func([]byte)) {}, outcome{sent: 200, lost: 200}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log []byte
			tt.log(func(raw []byte) { log = tlog.AppendEntry(log, 1_700_000_000_000_000, raw) })
			c := &comparer{f: f}
			if err := c.tlog(bytes.NewReader(log)); err != nil {
				t.Fatal(err)
			}
			if got := c.end(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	stat := "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 100 50 7 3 20 0 1 0 5 6 7"
	own, children, err := parseStat(stat)
	if err != nil || own != 1500*time.Millisecond || children != 100*time.Millisecond {
		t.Errorf("%v %v %v", own, children, err)
	}
	for _, bad := range []string{"", "7 (x) S 1", "7 (x) S 1 7 7 0 -1 4194560 1 2 3 4 a b c d"} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParsePeak(t *testing.T) {
	if n, err := parsePeak("Name:\tx\nVmHWM:\t   11264 kB\nVmRSS:\t 1 kB\n"); err != nil || n != 11<<20 {
		t.Errorf("%d %v", n, err)
	}
	if _, err := parsePeak("Name:\tx\n"); err == nil {
		t.Error("no error where there is no peak")
	}
}

func TestPacerKeepsTheRate(t *testing.T) {
	for _, group := range []time.Duration{0, senderGroup} {
		p := pacer{rate: 789, group: group}
		for i := range 2000 {
			ideal := float64(i) / 789
			late := p.due(i).Seconds() - ideal
			if late < -1e-6 || late > group.Seconds()+1e-6 {
				t.Fatalf("group %v: frame %d is %v s off", group, i, late)
			}
		}
	}
}

func TestSpread(t *testing.T) {
	if s := spreadOf([]float64{3, 1, 2}); s != (spread{1, 2, 3}) {
		t.Errorf("%+v", s)
	}
	if s := spreadOf(nil); math.Abs(s.max) != 0 {
		t.Errorf("%+v", s)
	}
}
