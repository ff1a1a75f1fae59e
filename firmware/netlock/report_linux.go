package netlock

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"holdfast/firmware/evidence"
	"holdfast/firmware/netlock/attempts"
	"holdfast/firmware/netlock/bpf"
	"holdfast/firmware/netlock/host"
	"holdfast/firmware/netlock/nflog"
)

// reporter brings what layers refused, and what happened to them, into lines: names as far as
// they are known, counts always.
type reporter struct {
	l       *Lock
	agg     *attempts.Aggregator
	strikes atomic.Int64

	mu      sync.Mutex
	readers []closer
	tables  tableCounts
}

type closer interface{ Close() error }

func newReporter(l *Lock) *reporter {
	emit := l.cfg.Attempts
	if emit == nil {
		emit = func(evidence.Attempt) {}
	}
	r := &reporter{l: l, tables: tableCounts{named: map[string]int64{}, told: map[string]int64{}}}
	r.agg = attempts.New(attempts.Config{Now: func() int64 { return l.cfg.Now().Microseconds() }, Emit: emit})
	return r
}

// start gives counts each second until ctx ends.
func (r *reporter) start(ctx context.Context) func() {
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.agg.Run(ctx) }) // ends with ctx, by no other cause
	return wg.Wait
}

// follow takes the events of a BPF layer from now on.
func (r *reporter) follow(layer string, events func(func(bpf.Event)) (*bpf.Reader, error)) {
	reader, err := events(func(e bpf.Event) { r.agg.Add(fromBPF(layer, e)) })
	if err != nil {
		r.l.log.Warn("lock: refusals are counted, not named", slog.String("layer", layer), slog.Any("err", err))
		return
	}
	r.keep(reader)
}

// hear takes the reports of the tables from now on.
func (r *reporter) hear(group uint16) {
	reader, err := nflog.Listen(group)
	if err != nil {
		r.l.log.Warn("lock: what the tables drop is counted, not named", slog.Any("err", err))
		return
	}
	r.keep(reader)
	go func() {
		for {
			p, err := reader.Read()
			switch {
			case errors.Is(err, nflog.ErrBad):
			case err != nil:
				if !errors.Is(err, os.ErrClosed) {
					r.l.log.Warn("lock: what the tables drop is counted, and no longer named", slog.Any("err", err))
				}
				return
			default:
				r.packet(p)
			}
		}
	}()
}

// packet adds one that the tables dropped. What came in by a link is no attempt of a program.
func (r *reporter) packet(p nflog.Packet) {
	if p.Layer == "" {
		return
	}
	r.mu.Lock()
	r.tables.named[p.Layer]++
	r.mu.Unlock()
	e := attempts.Event{Usec: p.Usec, Layer: p.Layer, What: "frame", UID: p.UID, Protocol: p.Protocol, Destination: p.Destination,
		Link: p.Link, Detail: p.Hook}
	if p.Hook == "prerouting" || p.Hook == "input" || p.Hook == "ingress" {
		e.Detail += ", from " + p.Source
	}
	r.agg.Add(e)
}

func (r *reporter) keep(c closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers = append(r.readers, c)
}

func fromBPF(layer string, e bpf.Event) attempts.Event {
	out := attempts.Event{
		Usec: e.Nsec / 1000, Layer: layer, What: e.What(), PID: e.PID, UID: e.UID, Comm: e.Comm,
		Protocol: e.Protocol(), Destination: e.Destination(), Detail: e.Detail(), Count: max(e.Count, 1), Unknown: e.Lost,
	}
	if e.Ifindex > 0 {
		if i, err := net.InterfaceByIndex(e.Ifindex); err == nil {
			out.Link = i.Name
		}
	}
	return out
}

// now is an event of the guard itself.
func (r *reporter) now(layer, what string) attempts.Event {
	return attempts.Event{Usec: r.l.cfg.Now().Microseconds(), Layer: layer, What: what, UID: -1}
}

// strike reports that somebody changed a layer.
func (r *reporter) strike(layer string, err error) {
	r.strikes.Add(1)
	e := r.now(layer, "strike")
	e.Detail = firstLine(err.Error())
	r.agg.Add(e)
}

// linkUp reports a link that somebody set up.
func (r *reporter) linkUp(name string) {
	e := r.now(LinksDown, "link")
	e.Link, e.Detail = name, "was up, taken down"
	r.agg.Add(e)
}

// usb reports a device that was refused.
func (r *reporter) usb(d host.USBDevice) {
	e := r.now(USB, "usb")
	e.Detail = d.String()
	r.agg.Add(e)
}

// totals returns the attempts refused, and the layers that were set right.
func (r *reporter) totals() (refused, strikes int64) {
	for _, n := range r.agg.Total() {
		refused += n
	}
	strikes = r.strikes.Load()
	return refused - strikes, strikes
}

func (r *reporter) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.readers {
		_ = c.Close() // what it says matters to nobody any more
	}
	r.readers = nil
}

// tableCounts tells what the tables' counters say beyond what was reported by name: the kernel
// limits reports, and counts everything.
type tableCounts struct {
	named   map[string]int64 // reported, by layer
	told    map[string]int64 // told as unnamed
	pending map[string]int64 // unnamed at the look before
}

// unnamed returns for each layer the drops that nobody named. A report may come later than its
// count, so what counts is what was missing at two looks, a second apart.
func (t *tableCounts) unnamed(counters map[string]uint64) map[string]int64 {
	out, pending := map[string]int64{}, map[string]int64{}
	for layer, n := range counters {
		missing := int64(n) - t.named[layer] - t.told[layer]
		if missing <= 0 {
			continue
		}
		pending[layer] = missing
		if d := min(missing, t.pending[layer]); d > 0 {
			out[layer] = d
			t.told[layer] += d
			pending[layer] -= d
		}
	}
	t.pending = pending
	return out
}

// countTables adds what the tables dropped and nobody named. It is called once a second.
func (r *reporter) countTables() {
	counters, err := r.l.parts.tables.Counters()
	if err != nil {
		return // Verify says what is wrong with the tables
	}
	r.mu.Lock()
	missing := r.tables.unnamed(counters)
	r.mu.Unlock()
	for layer, n := range missing {
		e := r.now(layer, "frame")
		e.Count, e.Unknown = n, true
		r.agg.Add(e)
	}
}
