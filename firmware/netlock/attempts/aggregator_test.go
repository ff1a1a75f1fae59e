package attempts_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/firmware/evidence"
	"holdfast/firmware/netlock/attempts"
)

// bench is an Aggregator with a clock that the test sets and the lines that it gave.
type bench struct {
	*attempts.Aggregator
	now   int64
	lines []evidence.Attempt
	at    []int64 // when each line was given
}

func newBench(proc string) *bench {
	b := &bench{now: 1e9}
	b.Aggregator = attempts.New(attempts.Config{
		Now:  func() int64 { return b.now },
		Emit: func(a evidence.Attempt) { b.lines = append(b.lines, a); b.at = append(b.at, b.now) },
		Proc: proc,
	})
	return b
}

func (b *bench) take() []evidence.Attempt {
	lines := b.lines
	b.lines, b.at = nil, nil
	return lines
}

// tick lets a second pass.
func (b *bench) tick() {
	b.now += 1e6
	b.Tick()
}

func sum(lines []evidence.Attempt) (n int64) {
	for _, l := range lines {
		n += l.Count
	}
	return n
}

func event(program, to string) attempts.Event {
	return attempts.Event{
		Layer: "cgroup-bpf", What: "connect", Program: program, PID: 7, UID: 1000, Protocol: "tcp", Addr: netip.MustParseAddrPort(to),
	}
}

// stamped stamps an event with the bench's time.
func (b *bench) stamped(e attempts.Event) attempts.Event {
	e.Usec = b.now
	return e
}

// TestFirstThenCounts: the first of a kind at once, the others as one line when the second ends.
func TestFirstThenCounts(t *testing.T) {
	b := newBench(t.TempDir())
	b.Add(b.stamped(event("/bin/a", "192.0.2.1:443")))
	want := evidence.Attempt{
		Usec: 1e9, SeenUsec: 1e9, Layer: "cgroup-bpf", What: "connect", PID: 7, UID: 1000,
		Program: "/bin/a", Protocol: "tcp", Destination: "192.0.2.1:443", Count: 1,
	}
	if got := b.take(); len(got) != 1 || got[0] != want {
		t.Fatalf("at once: %+v, want %+v", got, want)
	}
	for i := range 5 {
		b.now = 1e9 + int64(i+1)*1000
		e := b.stamped(event("/bin/a", "192.0.2.1:443"))
		e.Count = int64(i) // 0 stands for 1
		b.Add(e)
	}
	if got := b.take(); len(got) != 0 {
		t.Fatalf("lines before the second ended: %+v", got)
	}
	b.tick()
	want.Usec, want.LastUsec, want.SeenUsec, want.Count = 1e9+1000, 1e9+5000, 1e9+1000, 1+1+2+3+4
	if got := b.take(); len(got) != 1 || got[0] != want {
		t.Fatalf("counted: %+v, want %+v", got, want)
	}
	b.tick()
	if got := b.take(); len(got) != 0 {
		t.Errorf("lines though nothing happened: %+v", got)
	}
}

// TestKinds: what makes another kind, and what does not.
func TestKinds(t *testing.T) {
	base := event("/bin/a", "192.0.2.1:443")
	tests := []struct {
		name   string
		change func(*attempts.Event)
		lines  int
	}{
		{"the same", func(*attempts.Event) {}, 1},
		{"another process", func(e *attempts.Event) { e.PID = 8 }, 1},
		{"another detail", func(e *attempts.Event) { e.Detail = "again" }, 1},
		{"another program", func(e *attempts.Event) { e.Program = "/bin/b" }, 2},
		{"another user", func(e *attempts.Event) { e.UID = -1 }, 2},
		{"another port", func(e *attempts.Event) { e.Addr = netip.MustParseAddrPort("192.0.2.1:80") }, 2},
		{"another layer", func(e *attempts.Event) { e.Layer = "nft-inet" }, 2},
		{"another link", func(e *attempts.Event) { e.Link = "eth0" }, 2},
		{"something else tried", func(e *attempts.Event) { e.What = "send" }, 2},
		{"another protocol", func(e *attempts.Event) { e.Protocol = "udp" }, 2},
		{"a MAC", func(e *attempts.Event) { e.Addr, e.Destination = netip.AddrPort{}, "ff:ff:ff:ff:ff:ff" }, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t.TempDir())
			b.Add(b.stamped(base))
			e := base
			test.change(&e)
			b.Add(b.stamped(e))
			if len(b.lines) != test.lines {
				t.Errorf("%d lines at once, want %d: %+v", len(b.lines), test.lines, b.lines)
			}
			b.tick()
			if n := sum(b.lines); n != 2 {
				t.Errorf("the lines stand for %d attempts, want 2", n)
			}
		})
	}
}

// TestDestinations: an address without a port, IPv6, and none.
func TestDestinations(t *testing.T) {
	for _, test := range []struct{ to, want string }{
		{"192.0.2.1:0", "192.0.2.1"},
		{"[2001:db8::1]:53", "[2001:db8::1]:53"},
		{"[2001:db8::1]:0", "2001:db8::1"},
	} {
		b := newBench(t.TempDir())
		b.Add(b.stamped(event("/bin/a", test.to)))
		b.Add(b.stamped(event("/bin/a", test.to)))
		b.tick()
		if len(b.lines) != 2 || b.lines[0].Destination != test.want || b.lines[1].Destination != test.want {
			t.Errorf("%s: %+v, want %s twice", test.to, b.lines, test.want)
		}
	}
}

// TestNewAgain: a kind that was not seen for a while is new.
func TestNewAgain(t *testing.T) {
	b := newBench(t.TempDir())
	b.Add(b.stamped(event("/bin/a", "192.0.2.1:443")))
	for range 12 {
		b.tick()
	}
	b.take()
	b.Add(b.stamped(event("/bin/a", "192.0.2.1:443")))
	if len(b.lines) != 1 {
		t.Errorf("%d lines at once, want 1", len(b.lines))
	}
}

// TestFlood: 12,000 attempts a second of many kinds for four seconds. No second has more than 64
// lines, and the lines stand for every attempt.
func TestFlood(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		r := rand.New(rand.NewPCG(seed, 0))
		b := newBench(t.TempDir())
		var want int64
		for range 4 {
			for range 12000 {
				b.now += 83
				e := b.stamped(event(fmt.Sprintf("/bin/%d", r.IntN(300)), fmt.Sprintf("192.0.2.%d:%d", r.IntN(256), r.IntN(65536))))
				e.Layer = []string{"cgroup-bpf", "nft-inet", "tc"}[r.IntN(3)]
				e.Unknown = r.IntN(50) == 0
				e.Count = 1 + int64(r.IntN(3))
				want += e.Count
				b.Add(e)
			}
			b.Tick()
		}
		b.Flush()
		if got := sum(b.lines); got != want {
			t.Errorf("seed %d: the lines stand for %d attempts of %d", seed, got, want)
		}
		var total int64
		for _, n := range b.Total() {
			total += n
		}
		if total != want {
			t.Errorf("seed %d: total %d of %d", seed, total, want)
		}
		for i := range b.at {
			if j := i + attempts.MaxLines; j < len(b.at)-len(b.Total()) && b.at[j]-b.at[i] < 1e6 {
				t.Fatalf("seed %d: more than %d lines in a second from line %d on", seed, attempts.MaxLines, i)
			}
		}
	}
}

// TestShare: a program that tries ten thousand destinations does not hide another one.
func TestShare(t *testing.T) {
	b := newBench(t.TempDir())
	for i := range 10000 {
		b.now += 83
		b.Add(b.stamped(event("/bin/flood", fmt.Sprintf("192.0.2.1:%d", i+1))))
	}
	flood := b.take()
	b.Add(b.stamped(event("/bin/quiet", "198.51.100.1:22")))
	if got := b.take(); len(got) != 1 || got[0].Program != "/bin/quiet" {
		t.Errorf("the other program's line: %+v", got)
	}
	b.Tick()
	rest := b.take()
	if n := sum(flood) + sum(rest); n != 10000 {
		t.Errorf("the lines stand for %d attempts of 10000", n)
	}
	if len(flood)+len(rest) > 20 {
		t.Errorf("%d lines of one program in a second", len(flood)+len(rest))
	}
	last := rest[len(rest)-1]
	if last.What != "summary" || last.Program != "/bin/flood" || last.UID != 1000 || last.LastUsec == 0 {
		t.Errorf("the summary of one program: %+v", last)
	}
}

// TestSummary: of several programs it names none; without a program it stands for the layer.
func TestSummary(t *testing.T) {
	b := newBench(t.TempDir())
	b.Add(attempts.Event{Usec: 5, Layer: "cgroup-bpf", UID: 3, Program: "/bin/a", Count: 10, Unknown: true})
	b.Add(attempts.Event{Usec: 9, Layer: "cgroup-bpf", UID: -1, Count: 32, Unknown: true})
	b.tick()
	got := b.take()
	if len(got) != 1 {
		t.Fatalf("lines %+v, want one", got)
	}
	s := got[0]
	if s.What != "summary" || s.Count != 42 || s.UID != -1 || s.Program != "" || s.Usec != 5 || s.LastUsec != 9 {
		t.Errorf("summary %+v", s)
	}
}

// TestManyLayers: names beyond what is told apart count together.
func TestManyLayers(t *testing.T) {
	b := newBench(t.TempDir())
	for i := range 100 {
		b.Add(b.stamped(attempts.Event{Layer: fmt.Sprintf("layer-%d", i), Unknown: true}))
	}
	b.tick()
	if n := sum(b.lines); n != 100 || len(b.lines) > 16 || b.Total()["other"] != 100-15 {
		t.Errorf("%d lines for %d attempts, %v", len(b.lines), n, b.Total())
	}
}

// TestMemory: fifteen thousand kinds of as many programs with long names, and the heap stays small.
func TestMemory(t *testing.T) {
	const many = 15_000
	long := strings.Repeat("d/", 1500)
	now := int64(1e9)
	a := attempts.New(attempts.Config{Now: func() int64 { return now }, Emit: func(evidence.Attempt) {}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range many {
		now += 10
		e := event("", fmt.Sprintf("192.0.2.%d:%d", i%256, i%65536))
		e.Usec, e.PID, e.Program, e.UID, e.Link = now, 0, fmt.Sprintf("/%s%d", long, i), int64(i), fmt.Sprint(i)
		a.Add(e)
		if i%10000 == 0 {
			a.Tick()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if n := a.Total()["cgroup-bpf"]; n != many {
		t.Errorf("total %d", n)
	}
}

// TestRun: a Tick each second, and everything told at the end.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var lines, told atomic.Int64
		a := attempts.New(attempts.Config{
			Now:  func() int64 { return time.Since(start).Microseconds() },
			Emit: func(l evidence.Attempt) { lines.Add(1); told.Add(l.Count) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		e := event("/bin/a", "192.0.2.1:1")
		a.Add(e)
		a.Add(e)
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if n := lines.Load(); n != 1 {
			t.Errorf("before the second ends: %d lines", n)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := lines.Load(); n != 2 {
			t.Errorf("after it: %d lines", n)
		}
		a.Add(e)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := told.Load(); n != 3 {
			t.Errorf("the lines stand for %d attempts of 3", n)
		}
	})
}

// TestTogether: many goroutines, one number.
func TestTogether(t *testing.T) {
	var n int64
	start := time.Now()
	a := attempts.New(attempts.Config{
		Now:  func() int64 { return time.Since(start).Microseconds() },
		Emit: func(l evidence.Attempt) { n += l.Count },
	})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				a.Add(event(fmt.Sprintf("/bin/%d", g), fmt.Sprintf("192.0.2.1:%d", i%50)))
				if i%500 == 0 {
					a.Tick()
				}
			}
		})
	}
	wg.Wait()
	a.Flush()
	if n != 16000 {
		t.Errorf("the lines stand for %d attempts of 16000", n)
	}
}

// BenchmarkAdd: the cost of one refusal. At 10,000 a second 1,000 ns are 1 % of a core.
func BenchmarkAdd(b *testing.B) {
	for name, kinds := range map[string]int{"same": 1, "spray": 60000} {
		b.Run(name, func(b *testing.B) {
			now := int64(1e9)
			a := attempts.New(attempts.Config{Now: func() int64 { return now }, Emit: func(evidence.Attempt) {}})
			events := make([]attempts.Event, kinds)
			for i := range events {
				events[i] = event("", fmt.Sprintf("192.0.2.1:%d", i+1))
				events[i].PID, events[i].Comm = 1, "systemd"
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				now += 100
				if i++; i%10000 == 0 {
					a.Tick()
				}
				e := events[i%kinds]
				e.Usec = now
				a.Add(e)
			}
		})
	}
}
