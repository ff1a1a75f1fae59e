package recorder

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"holdfast/firmware/evidence"
)

const (
	// auditLines and auditBytes bound what waits between the guard's lines and the vault.
	auditLines = 1024
	auditBytes = 64 << 10
	// auditRate is how many lines are taken in a second. The guard gives a quarter of it.
	auditRate = 256
	// auditLayers bounds the names of layers that are counted apart.
	auditLayers = 32
	// textMost is the longest text in a line, in bytes, and detailMost that of a detail.
	textMost, detailMost = 1024, 512
)

// auditQueue holds attempts until the vault takes them. What finds no room is counted by layer,
// and becomes a line "summary" when there is room: counts are exact whatever happens. Safe for
// concurrent use.
type auditQueue struct {
	mu     sync.Mutex
	lines  [][]byte
	bytes  int
	more   map[string]*evidence.Attempt // summaries, by layer
	bad    int
	second time.Duration // when the present second began
	taken  int           // lines in it
}

// add takes an attempt. It tells whether it is the first that waits.
func (q *auditQueue) add(now time.Duration, a *evidence.Attempt) (first bool) {
	line, ok := auditLine(a)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !ok {
		q.bad++
		return false
	}
	if now-q.second >= time.Second {
		q.second, q.taken = now, 0
	}
	if q.taken++; q.taken > auditRate || len(q.lines) >= auditLines || q.bytes+len(line) > auditBytes {
		q.sum(a)
		return false
	}
	q.lines = append(q.lines, line)
	q.bytes += len(line)
	return len(q.lines) == 1
}

// auditLine encodes what was parsed anew: it comes from another process.
func auditLine(a *evidence.Attempt) (line []byte, ok bool) {
	const most = 1 << 53
	for _, n := range []int64{a.Usec, a.LastUsec, a.SeenUsec, a.Count, a.UID + 1, int64(a.PID)} {
		if n < 0 || n > most {
			return nil, false
		}
	}
	for _, s := range []*string{&a.Layer, &a.What, &a.Program, &a.Protocol, &a.Destination, &a.Link} {
		*s = (*s)[:min(len(*s), textMost)]
	}
	a.Detail = a.Detail[:min(len(a.Detail), detailMost)]
	line, err := evidence.Marshal(a)
	return line, err == nil && len(line) <= evidence.MaxLine
}

// sum counts an attempt that finds no room.
func (q *auditQueue) sum(a *evidence.Attempt) {
	if q.more == nil {
		q.more = map[string]*evidence.Attempt{}
	}
	layer := a.Layer
	if q.more[layer] == nil && len(q.more) >= auditLayers {
		layer = "others"
	}
	s := q.more[layer]
	if s == nil {
		s = &evidence.Attempt{Usec: a.Usec, Layer: layer, What: "summary", UID: -1, Detail: "too many at once for a line each"}
		q.more[layer] = s
	}
	s.Usec = min(s.Usec, a.Usec)
	s.LastUsec = max(s.LastUsec, a.Usec, a.LastUsec)
	s.SeenUsec = max(s.SeenUsec, a.SeenUsec)
	s.Count += a.Count
}

// pass hands lines to take, oldest first, until it is false; then, where all is given and they are
// asked for, summaries.
func (q *auditQueue) pass(take func(line []byte) bool, summaries bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) > 0 {
		if !take(q.lines[0]) {
			return
		}
		q.bytes -= len(q.lines[0])
		q.lines = q.lines[1:]
	}
	q.lines = nil
	if !summaries {
		return
	}
	for _, layer := range slices.Sorted(maps.Keys(q.more)) {
		line, err := evidence.Marshal(q.more[layer])
		if err != nil || !take(line) {
			return
		}
		delete(q.more, layer)
	}
}

// badLines returns how many lines were none, and forgets them.
func (q *auditQueue) badLines() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, q.bad = q.bad, 0
	return n
}

// left counts the attempts that no line of the vault stands for.
func (q *auditQueue) left() (n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.more {
		n += a.Count
	}
	return n + int64(len(q.lines))
}

// attempt takes what the guard hands over.
func (r *Recorder) attempt(a *evidence.Attempt) {
	if r.audit.add(r.cfg.Now(), a) {
		r.ring.notify()
	}
}

func (r *Recorder) badLines(n int) {
	r.audit.mu.Lock()
	r.audit.bad += n
	r.audit.mu.Unlock()
}

// passAudit hands the vault what it takes; summaries once a second, and where last says that there
// is no other time.
func (w *writer) passAudit(now time.Duration, last bool) {
	if w.r.cfg.Guard == nil {
		return
	}
	second := now >= w.nextAudit
	w.r.audit.pass(w.v.Audit, second || last)
	if !second {
		return
	}
	w.nextAudit = now + time.Second
	if n := w.r.audit.badLines(); n > 0 {
		w.r.event("audit_bad_lines", fmt.Sprint(n))
	}
}
