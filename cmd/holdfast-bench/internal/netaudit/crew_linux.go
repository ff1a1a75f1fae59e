package netaudit

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Rights of an attacker.
const (
	asRootFull    = "root"    // every capability
	asRootDropped = "dropped" // root without the powers that a locked board gives nobody
	asUser        = "user"    // an ordinary user
)

// nobody is the user and group that an ordinary attacker is.
const nobody = 65534

// crew is the attacker: a process on the board that does what it is told, as badly as it can.
type crew struct {
	attacks []*attack
	files   map[string]*os.File // what it was started with
	rights  string

	mu     sync.Mutex
	trials map[int]*trial
	guard  int // process id; 0: there is none
	flood  atomic.Bool
	wg     sync.WaitGroup
	echoes *echoes
}

// runCrew serves requests. args: rights, names of the files from descriptor 3 on, with commas.
func runCrew(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("crew: %d arguments", len(args))
	}
	c := &crew{attacks: attacks(), files: map[string]*os.File{}, rights: args[0], trials: map[int]*trial{}}
	for i, name := range strings.FieldsFunc(args[1], func(r rune) bool { return r == ',' }) {
		unix.CloseOnExec(3 + i)
		c.files[name] = os.NewFile(uintptr(3+i), name)
	}
	return serve(os.Stdin, os.Stdout, c.handle)
}

func (c *crew) handle(q request) answer {
	switch q.Op {
	case "before":
		return answer{Errs: c.each(q.IDs, func(t *trial, a *attack) error {
			if a.before == nil {
				return nil
			}
			return a.before(t)
		})}
	case "run":
		return answer{Errs: c.each(q.IDs, func(t *trial, a *attack) error {
			return c.try(t, a)
		})}
	case "guard":
		c.guard = q.PID
	case "raise":
		go c.raise(q.IDs)
	case "flood":
		c.startFlood(q.IDs[0], q.Name)
	case "calm":
		c.flood.Store(false)
		c.wg.Wait()
	case "loopback":
		return failed(c.loopback(q.Name))
	default:
		return answer{Err: "unknown: " + q.Op}
	}
	return answer{}
}

// each does f for all attacks at once and returns what went wrong, by attack.
func (c *crew) each(ids []int, f func(*trial, *attack) error) map[int]string {
	var wg sync.WaitGroup
	var mu sync.Mutex
	errs := map[int]string{}
	for _, id := range ids {
		t := c.trial(id)
		wg.Go(func() {
			if err := f(t, c.attacks[id-1]); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs[id] = err.Error()
			}
		})
	}
	wg.Wait()
	return errs
}

// tries is how often root repeats what failed: his links are up for a moment only.
const tries = 4

func (c *crew) try(t *trial, a *attack) (err error) {
	if a.run == nil {
		return nil
	}
	n := 1
	if c.rights == asRootFull && !a.alone {
		n = tries
	}
	for range n {
		// Silence is the answer of a firewall: nothing is gained by asking again.
		if err = a.run(t); err == nil || errors.Is(err, errSilence) {
			break
		}
		pause()
	}
	return err
}

func (c *crew) trial(id int) *trial {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.trials[id]
	if t == nil {
		t = &trial{id: id, crew: c, keep: map[string]any{}}
		c.trials[id] = t
	}
	return t
}

// raise sets the links up again, each time somebody takes them down. Root with every capability
// does it; for others it is refused each time.
func (c *crew) raise(ids []int) {
	if c.rights != asRootFull {
		return
	}
	for ; ; pause() {
		if !isUp(sharedLink) || !isUp(secondLink) {
			_ = prepareShared(ids) // undone as fast as it is done: again
		}
		for _, id := range ids {
			c.raiseOwn(id)
		}
	}
}

// raiseOwn does the same for the links of one attack.
func (c *crew) raiseOwn(id int) {
	a := c.attacks[id-1]
	for _, p := range a.links {
		switch name := ownLink(id, p.suffix); {
		case p.down || isUp(name):
		case a.bare:
			_ = up(name) // as above
		default:
			_ = prepareOwn(id, name) // as above
		}
	}
}

func isUp(name string) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr) != nil {
		return true // not there: nothing to set up
	}
	return ifr.Uint16()&unix.IFF_UP != 0
}
