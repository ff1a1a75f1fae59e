// Package attempts turns refusals into lines that the recorder seals (package evidence): the
// first of a kind at once, more of the same kind as a count each second, and never more than
// MaxLines in a second, whatever an attacker does. Counts are exact: the sum over all lines is the
// number of refusals, also where a line stands for many of which it cannot name each.
//
// A kind is program, user, protocol, destination, link, layer and what was tried. One program
// cannot take all lines for itself: what it does beyond its share is in the summary line of the
// layer, and others are still named. Memory is bounded by the constants below.
//
// Aggregator opens nothing but /proc/PID; Writer (Linux) owns the FIFO. Neither starts a goroutine.
package attempts

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"holdfast/firmware/evidence"
)

// MaxLines is the most lines given within any second.
const MaxLines = 64

// Shares of MaxLines. The first of a kind comes at once while fewer than firstLines came so in the
// last second; counts fill up to kindLines; the rest is for summaries, one a layer.
const (
	firstLines = 24
	kindLines  = 48
	maxLayers  = MaxLines - kindLines // also the most layers that are told apart

	programFirst = 8  // of firstLines, for one program
	programLines = 16 // of kindLines, for one program
)

// Bounds of what is kept. A text is at most maxText bytes, so all kinds together stay near 2 MiB
// at worst.
const (
	maxKinds        = 512
	maxPrograms     = 128
	kindsPerProgram = 48
	idle            = 10 * time.Second // a kind unseen for so long is new again
)

// otherLayers stands for layers beyond maxLayers.
const otherLayers = "other"

// Event is one refusal, or Count of them, as a layer reports it.
type Event struct {
	Usec        int64  // when; CLOCK_BOOTTIME
	Layer, What string // as in evidence.Attempt
	PID         int    // 0: not known
	UID         int64  // -1: not known
	Comm        string // the name that the thread had; "": not known
	Program     string // path, where the layer knows it; else it is looked up by PID
	Protocol    string
	Addr        netip.AddrPort // destination; an address alone has port 0
	Destination string         // one that is no IP address, if Addr is the zero value
	Link        string
	Detail      string
	Count       int64 // 0 is 1
	Unknown     bool  // nothing but layer and count is known: goes to the summary
}

// Config is what an Aggregator works with. Now and Emit are needed.
type Config struct {
	Now  func() int64           // microseconds since the kernel started (CLOCK_BOOTTIME)
	Emit func(evidence.Attempt) // gets the lines, one call at a time; must not call the Aggregator
	Proc string                 // where processes are looked up; "" is /proc
}

// Aggregator counts refusals and gives lines. Its methods may be called at the same time.
type Aggregator struct {
	now  func() int64
	emit func(evidence.Attempt)

	mu        sync.Mutex
	names     names
	kinds     map[kind]*tally
	programs  map[who]*share
	summaries map[string]*summary
	total     map[string]int64
	all       window // lines
	named     window // lines but summaries
	first     window // lines that came at once
}

// who is a program of a user. The empty program is all that could not be looked up.
type who struct {
	program string
	uid     int64
}

type kind struct {
	who
	layer, what, protocol, text, link string
	addr                              netip.AddrPort
}

// tally is a kind's refusals that no line has told yet.
type tally struct {
	line evidence.Attempt // Count 0: all are told
	seen int64            // the last refusal, for idle
}

// share is what a program used of the lines and of memory.
type share struct {
	named, first window
	kinds        int
	seen         int64
}

// summary is a layer's refusals for which there was no line or no room.
type summary struct {
	line  evidence.Attempt
	mixed bool // of several programs or users
}

// New returns an Aggregator that has seen nothing.
func New(c Config) *Aggregator {
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	return &Aggregator{
		now: c.Now, emit: c.Emit, names: newNames(c.Proc),
		kinds: make(map[kind]*tally), programs: make(map[who]*share),
		summaries: make(map[string]*summary), total: make(map[string]int64),
		all: newWindow(MaxLines), named: newWindow(kindLines), first: newWindow(firstLines),
	}
}

// Add takes a refusal. If it is the first of its kind, its line is given before Add returns.
func (a *Aggregator) Add(e Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	line := evidence.Attempt{
		Usec: e.Usec, LastUsec: e.Usec, SeenUsec: now, Layer: a.layer(e.Layer), What: clean(e.What),
		PID: max(e.PID, 0), UID: max(e.UID, -1), Count: max(e.Count, 1),
	}
	a.total[line.Layer] += line.Count
	if e.Unknown {
		a.summarise(line)
		return
	}
	line.Program, line.Detail = clean(e.Program), clean(e.Detail)
	if e.Program == "" && e.PID > 0 {
		note := ""
		line.Program, note = a.names.program(e, now)
		line.Detail = join(line.Detail, note)
	}
	line.Protocol, line.Destination, line.Link = clean(e.Protocol), clean(e.Destination), clean(e.Link)
	a.count(line, e.Addr, now)
}

// count adds a line to its kind, and gives it if it is the first one.
func (a *Aggregator) count(line evidence.Attempt, addr netip.AddrPort, now int64) {
	w := who{line.Program, line.UID}
	k := kind{w, line.Layer, line.What, line.Protocol, line.Destination, line.Link, addr}
	if t := a.kinds[k]; t != nil {
		t.seen = now
		a.programs[w].seen = now
		add(&t.line, line)
		return
	}
	s := a.share(w, now)
	if s == nil || s.kinds >= kindsPerProgram || len(a.kinds) >= maxKinds {
		a.summarise(line)
		return
	}
	if addr.IsValid() {
		line.Destination = destination(addr)
	}
	s.kinds++
	t := &tally{line: line, seen: now}
	a.kinds[k] = t
	if s.first.free(now) && a.first.free(now) && a.tell(&t.line, s, now) {
		s.first.use(now)
		a.first.use(now)
	}
}

// tell gives a kind's line and leaves it with nothing to tell. Without a line to spare it returns
// false.
func (a *Aggregator) tell(line *evidence.Attempt, s *share, now int64) bool {
	if !a.named.free(now) || !s.named.free(now) || !a.all.free(now) {
		return false
	}
	a.named.use(now)
	s.named.use(now)
	a.give(*line, now)
	line.Count = 0
	return true
}

func (a *Aggregator) give(line evidence.Attempt, now int64) {
	a.all.use(now)
	if line.Count == 1 {
		line.LastUsec = 0
	}
	a.emit(line)
}

// Tick gives the counts since the last Tick. Call it once a second.
func (a *Aggregator) Tick() { a.tick(false) }

// Flush gives everything that was counted, at most one summary line a layer beyond the limit. It
// is for the end.
func (a *Aggregator) Flush() { a.tick(true) }

// Run calls Tick each second until ctx ends, then Flush.
func (a *Aggregator) Run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			a.Tick()
		case <-ctx.Done():
			a.Flush()
			return nil
		}
	}
}

func (a *Aggregator) tick(end bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	for _, t := range a.untold() {
		s := a.programs[who{t.line.Program, t.line.UID}]
		if !a.tell(&t.line, s, now) {
			a.summarise(t.line)
			t.line.Count = 0
		}
	}
	for layer, s := range a.summaries {
		if end || a.all.free(now) {
			a.give(s.line, now)
			delete(a.summaries, layer)
		}
	}
	a.forget(now - idle.Microseconds())
}

// untold lists what no line has told yet, the oldest first.
func (a *Aggregator) untold() []*tally {
	var all []*tally
	for _, t := range a.kinds {
		if t.line.Count > 0 {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(x, y *tally) int { return cmp.Compare(x.line.SeenUsec, y.line.SeenUsec) })
	return all
}

// forget drops what was not seen since then.
func (a *Aggregator) forget(then int64) {
	for k, t := range a.kinds {
		if t.seen < then {
			delete(a.kinds, k)
			a.programs[k.who].kinds--
		}
	}
	for w, s := range a.programs {
		if s.kinds == 0 && s.seen < then {
			delete(a.programs, w)
		}
	}
}

// share returns what w has used, or nil where there are too many programs.
func (a *Aggregator) share(w who, now int64) *share {
	s := a.programs[w]
	if s == nil {
		if len(a.programs) >= maxPrograms {
			return nil
		}
		s = &share{named: newWindow(programLines), first: newWindow(programFirst)}
		a.programs[w] = s
	}
	s.seen = now
	return s
}

// layer returns the name under which a layer is counted.
func (a *Aggregator) layer(name string) string {
	if _, ok := a.total[name]; ok {
		return name
	}
	if name = clean(name); name == "" || len(a.total) >= maxLayers-1 {
		return otherLayers
	}
	return name
}

// summarise adds a line to the summary of its layer. The summary has program and user as long as
// all in it have the same.
func (a *Aggregator) summarise(line evidence.Attempt) {
	line.What, line.PID = "summary", 0
	line.Protocol, line.Destination, line.Link, line.Detail = "", "", "", ""
	s := a.summaries[line.Layer]
	if s == nil {
		line.Detail = "more kinds than lines"
		a.summaries[line.Layer] = &summary{line: line}
		return
	}
	if s.line.Program != line.Program || s.line.UID != line.UID {
		s.mixed = true
		s.line.Program, s.line.UID, s.line.Detail = "", -1, "more kinds than lines, of several programs"
	}
	add(&s.line, line)
}

// add counts more into line, which may have been told before.
func add(line *evidence.Attempt, more evidence.Attempt) {
	if line.Count == 0 {
		destination := line.Destination
		*line = more
		line.Destination = cmp.Or(destination, more.Destination)
		return
	}
	line.Count += more.Count
	line.Usec = min(line.Usec, more.Usec)
	line.LastUsec = max(line.LastUsec, more.LastUsec)
}

// Total returns how many refusals were added, by layer.
func (a *Aggregator) Total() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string]int64, len(a.total))
	for layer, n := range a.total {
		all[layer] = n
	}
	return all
}

func destination(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// window remembers when the last lines were given, so that there are at most so many in any
// second.
type window struct {
	at   []int64
	next int
}

func newWindow(n int) window {
	w := window{at: make([]int64, n)}
	for i := range w.at {
		w.at[i] = -1 << 62
	}
	return w
}

// free tells whether one more fits. A clock that stands before the last line is not a new second.
func (w *window) free(now int64) bool { return now-w.at[w.next] >= time.Second.Microseconds() }

func (w *window) use(now int64) {
	w.at[w.next] = now
	w.next = (w.next + 1) % len(w.at)
}
