package attempts

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Looking up a process costs some system calls. What was found holds for fresh: a process keeps
// its number and its time of start when it executes another program, so neither would tell that
// the answer is old. At most maxLookups are made in a second.
const (
	fresh      = 100 * time.Millisecond
	maxLookups = 500
	maxCached  = 512
)

// tick is the unit of a process's time of start in /proc/PID/stat, rounded down (USER_HZ is 100
// everywhere).
const tick = 10 * time.Millisecond

// names looks up the programs of processes.
type names struct {
	proc   string
	cached map[caller]answer
	second int64 // of the lookups counted in used
	used   int
}

type caller struct {
	pid  int
	uid  int64
	comm string
}

type answer struct {
	program, note string
	until         int64
}

func newNames(proc string) names {
	return names{proc: proc, cached: make(map[caller]answer)}
}

// program returns the path of the executable of e's process, or "" and a clause that says why it
// is not known.
func (n *names) program(e Event, now int64) (path, note string) {
	c := caller{e.PID, e.UID, e.Comm}
	if a, ok := n.cached[c]; ok && now < a.until {
		return a.program, a.note
	}
	if s := now / time.Second.Microseconds(); s != n.second {
		n.second, n.used = s, 0
	}
	if n.used++; n.used > maxLookups {
		return "", "not looked up: too many programs"
	}
	path, note = n.look(e)
	n.keep(c, answer{path, note, now + fresh.Microseconds()}, now)
	return path, note
}

func (n *names) keep(c caller, a answer, now int64) {
	if len(n.cached) >= maxCached {
		for old, a := range n.cached {
			if now >= a.until {
				delete(n.cached, old)
			}
		}
	}
	if len(n.cached) >= maxCached {
		clear(n.cached)
	}
	n.cached[c] = a
}

// look reads the path first and the time of start after it. If the process that has the number
// then was there when the attempt was made, it had the number all the time between. A process
// that got the number within a tick after the attempt is not told apart.
func (n *names) look(e Event) (path, note string) {
	dir := filepath.Join(n.proc, strconv.Itoa(e.PID))
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	name, start, ok := stat(dir)
	switch {
	case !ok || start > e.Usec:
		return "", called("gone before it could be named", e.Comm)
	case errors.Is(err, fs.ErrPermission):
		return "", called("its program may not be read", e.Comm)
	case err != nil:
		return "", called("without a program, as the kernel's own threads are", e.Comm)
	case e.Comm != "" && e.Comm != name:
		return clean(exe), called("", e.Comm)
	}
	return clean(exe), ""
}

func called(why, comm string) string {
	if comm == "" {
		return why
	}
	return join(why, "called itself "+strconv.Quote(clean(comm)))
}

// stat returns name and time of start (CLOCK_BOOTTIME, microseconds) of a process, proc(5).
func stat(dir string) (name string, start int64, ok bool) {
	p, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", 0, false
	}
	open, end := bytes.IndexByte(p, '('), bytes.LastIndexByte(p, ')') // the name may hold brackets
	if open < 0 || end < open {
		return "", 0, false
	}
	fields := bytes.Fields(p[end+1:]) // from field 3 on
	const startTime = 22 - 3
	if len(fields) <= startTime {
		return "", 0, false
	}
	ticks, err := strconv.ParseInt(string(fields[startTime]), 10, 64)
	if err != nil || ticks < 0 || ticks > 1<<40 {
		return "", 0, false
	}
	return string(p[open+1 : end]), ticks * tick.Microseconds(), true
}
