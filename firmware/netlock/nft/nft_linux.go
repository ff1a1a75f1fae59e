package nft

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

var (
	// ErrDiffers: Verify found other rules than Apply made.
	ErrDiffers = errors.New("rules differ")
	// ErrMissing: the kernel does not have what a layer needs.
	ErrMissing = errors.New("not in this kernel")
	// ErrLink: not a name that a link can have.
	ErrLink = errors.New("not a link")
	// ErrForeign: another process owns a table of ours, which therefore cannot be opened.
	ErrForeign = errors.New("a table belongs to another process")
)

// Config tells what the tables are to be.
type Config struct {
	Group   uint16   // NFLOG group that hears of dropped packets
	Without []string // layers left out: for the audit
}

// Tables are the tables of one guard in the network namespace of the process. Methods may be
// called from several goroutines.
type Tables struct {
	mu      sync.Mutex
	k       kernel
	set     ruleset
	applied bool
	names   map[uint8][2]string // floor and owned table of each family; empty: none
	extra   map[string]string   // by layer: what the kernel showed beside our rules when they were made
	checked map[string]uint32   // by layer: the generation in which it was found right
	counts  map[string]uint64   // dropped packets by layer
	seen    map[string]uint64   // last value of each counter
}

// New opens the sockets and finds out what the kernel has. It changes no rules. An error means
// that nothing of nf_tables works.
func New(c Config) (*Tables, error) {
	k, err := dial()
	if err != nil {
		return nil, err
	}
	t := newTables(c, k)
	if s := t.set.support; s.Inet != nil && s.ARP != nil && s.Bridge != nil && s.Ingress != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errNone, s.Inet), k.Close())
	}
	return t, nil
}

func newTables(c Config, k kernel) *Tables {
	return &Tables{
		k:       k,
		set:     ruleset{group: c.Group, support: detect(k), without: slices.Clone(c.Without)},
		names:   make(map[uint8][2]string),
		extra:   make(map[string]string),
		checked: make(map[string]uint32),
		counts:  make(map[string]uint64),
		seen:    make(map[string]uint64),
	}
}

// Support returns what New found.
func (t *Tables) Support() Support { return t.set.support }

// Apply makes all tables of the families that the kernel has, in one batch: all or nothing.
// What is there already and right is not touched; a table that a dead guard left is taken
// over. It ends a maintenance. It reads back what it made: an error that is ErrDiffers means
// that somebody changed it meanwhile.
func (t *Tables) Apply() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set.open = nil
	return t.apply()
}

// Shut ends what Open began.
func (t *Tables) Shut() error { return t.Apply() }

// Open lets the packets of the named links pass, in and out, but not through the board to
// another link. ErrForeign: another process owns a table of ours, and nothing was opened.
func (t *Tables) Open(ifaces []string) error {
	if err := checkLinks(ifaces); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.set.open
	t.set.open = tidyLinks(ifaces)
	err := t.foreign()
	if err == nil {
		err = t.apply()
	}
	if err != nil {
		t.set.open = was
		return errors.Join(err, t.apply())
	}
	return nil
}

// SetLinks gives exactly these links, the loopback link excepted, netdev chains of their own. A link that has
// gone meanwhile is no error. Before Apply it only keeps the names.
func (t *Tables) SetLinks(names []string) error {
	if err := checkLinks(names); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set.links = tidyLinks(names)
	if !t.applied {
		return nil
	}
	return t.apply(LayerNetdev)
}

// Remove takes all tables of ours away, those of dead guards too, but not those that another
// process owns.
func (t *Tables) Remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.applied = false
	var msgs []message
	for _, l := range layers {
		have, err := readTables(t.k, l.family)
		if err != nil {
			continue // a family that the kernel does not have
		}
		for i := range have {
			if !have[i].foreign(t.k.port()) {
				msgs = append(msgs, have[i].remove())
			}
		}
	}
	return t.k.batch(msgs)
}

// Close closes the sockets. The tables stay: the owned ones where the kernel has the flag
// persist, the floor everywhere. t cannot be used after it.
func (t *Tables) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.k.Close()
}

// badName tells a name that the kernel gives no link (dev_valid_name). It goes by bytes: a name
// need not be UTF-8, and somebody could give a link such a one.
func badName(name string) bool {
	for i := range len(name) {
		switch name[i] {
		case '/', ':', ' ', '\t', '\n', '\v', '\f', '\r', 0, 0xa0:
			return true
		}
	}
	return false
}

func checkLinks(names []string) error {
	for _, n := range names {
		if n == "" || n == "." || n == ".." || len(n) >= unix.IFNAMSIZ || badName(n) {
			return fmt.Errorf("%w: %q", ErrLink, n)
		}
	}
	return nil
}

// tidyLinks sorts the names and takes doubles out, and the loopback link, whatever its name.
func tidyLinks(names []string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		l, err := net.InterfaceByName(n)
		return err == nil && l.Index == loopback
	})
	slices.Sort(names)
	return slices.Compact(names)
}
