package netlock

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/firmware/evidence"
)

// States of a layer in evidence.Layer.
const (
	StateOK      = "ok"
	StateMissing = "missing"  // the kernel, or the machine, has nothing of this kind
	StateBroken  = "broken"   // it could not be applied, or does not hold
	StateOpen    = "open"     // open for the interfaces of a ticket
	StateLeftOut = "left_out" // on purpose, by the audit or by a build that is to leak
)

// ErrHardware: a Lock for a namespace saw a link of the machine.
var ErrHardware = errors.New("netlock: this network namespace has hardware in it; only the guard of a board acts here")

// ErrForeign: the guard of a board runs in a network namespace that is not the board's.
var ErrForeign = errors.New("netlock: not the network namespace of this machine's first process")

// Config is what a Lock needs. The zero value is a board's.
type Config struct {
	// Namespace: act on this network namespace and on Cgroup alone.
	Namespace bool
	// Cgroup is the cgroup (v2) whose processes the cgroup layer covers. Empty: on a board the
	// root of the tree, in a namespace none.
	Cgroup string
	// Without names layers that are left out, to see what each is worth. Never set by holdfastd.
	Without []string
	// USB are the devices that may be used.
	USB []USBRule
	// Devices are those that the board's links lead to: what a UART behind USB needs stays.
	Devices []string
	// Attempts takes every line of the audit stream. It is called by one goroutine at a time
	// and must not wait.
	Attempts func(evidence.Attempt)
	Log      *slog.Logger
	// Now is the time since the kernel started. Empty: CLOCK_BOOTTIME.
	Now func() time.Duration
}

// USBRule allows one device, or all of a kind.
type USBRule struct {
	Port            string // 1-1.4 as in sysfs, or *
	Vendor, Product uint16
}

// layer is one of Names.
type layer struct {
	name   string
	needed bool
	detect func() error // nil: there is something to apply
	apply  func() error
	verify func() error // nil: it holds
	// maintained: what the layer does when some links are open for maintenance is done by apply
	// and verify themselves; its state is then StateOpen.
	maintained bool

	state  string
	detail string
}

// Lock is the lock of one network namespace, or of a board. Its methods may be called from any
// goroutine.
type Lock struct {
	cfg    Config
	log    *slog.Logger
	parts  parts
	links  *links
	report *reporter

	mu      sync.Mutex // held while layers are applied or looked at
	layers  []*layer
	open    []string // interfaces of a ticket
	known   []identity
	bare    bool // the kernel has no network stack: grade A
	applied bool

	stateMu sync.Mutex
	state   evidence.Lock
}

// set notes the state of a layer.
func (l *layer) set(state string, err error) {
	l.state, l.detail = state, ""
	if err != nil {
		l.detail = firstLine(err.Error())
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Apply closes everything and verifies it. It goes on after a layer that fails: the others
// are then all there is. The error names what is missing of what is needed; State has it all.
func (l *Lock) Apply() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.links != nil {
		if list, err := l.links.list(); err == nil {
			l.known = identities(list) // before the layers: what comes while they are applied is new
		}
	}
	for _, y := range l.layers {
		l.applyLayer(y)
	}
	l.applied = true
	for _, y := range l.layers {
		if y.state == StateOK || y.state == StateOpen {
			if err := y.verify(); err != nil {
				y.set(StateBroken, err)
			}
		}
	}
	l.publish()
	if missing := l.missing(); len(missing) > 0 {
		return fmt.Errorf("netlock: not locked: %s", strings.Join(missing, "; "))
	}
	return nil
}

func (l *Lock) applyLayer(y *layer) {
	switch {
	case slices.Contains(l.cfg.Without, y.name) || leaks[y.name]:
		y.set(StateLeftOut, nil)
		return
	case y.detect != nil:
		if err := y.detect(); err != nil {
			y.set(StateMissing, err)
			return
		}
	}
	if err := l.doApply(y); err != nil {
		l.log.Error("lock: layer cannot be applied", slog.String("layer", y.name), slog.Any("err", err))
		y.set(StateBroken, err)
		return
	}
	y.set(l.good(y), nil)
}

// doApply acts on the links that are there now, not on those of the last look.
func (l *Lock) doApply(y *layer) error {
	if l.links != nil {
		l.links.last = nil
	}
	return y.apply()
}

// good is the state of a layer that holds.
func (l *Lock) good(y *layer) string {
	if y.maintained && len(l.open) > 0 {
		return StateOpen
	}
	return StateOK
}

// check looks at every layer, and sets right what was changed.
func (l *Lock) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.applied {
		return
	}
	if l.links != nil {
		l.seeLinks() // what has just come is no layer that was changed
	}
	for _, y := range l.layers {
		if y.state != StateLeftOut && y.state != StateMissing {
			l.checkLayer(y)
		}
	}
	l.publish()
}

// checkLayer looks at one layer. A layer that is broken and stays so is tried again each time,
// and reported once.
func (l *Lock) checkLayer(y *layer) {
	err := y.verify()
	if err != nil && l.links != nil {
		l.seeLinks() // a link that has come since then is no layer that was changed
		err = y.verify()
	}
	if err == nil {
		y.set(l.good(y), nil)
		return
	}
	if y.state != StateBroken {
		l.report.strike(y.name, err)
		l.log.Warn("lock: layer was changed, setting it right", slog.String("layer", y.name), slog.Any("err", err))
	}
	if err = l.doApply(y); err == nil {
		err = y.verify()
	}
	if err != nil {
		y.set(StateBroken, err)
		return
	}
	y.set(l.good(y), nil)
}

// Open lets the traffic of the named interfaces pass and nothing else. It is for a ticket that
// was admitted; whoever calls it has to call Shut. The interfaces need not exist yet.
func (l *Lock) Open(interfaces []string) error {
	return l.change(slices.Clone(interfaces))
}

// Shut ends Open.
func (l *Lock) Shut() error { return l.change(nil) }

func (l *Lock) change(open []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = open
	var errs []error
	for _, y := range l.layers {
		if !y.maintained || y.state == StateLeftOut || y.state == StateMissing {
			continue
		}
		if err := l.doApply(y); err != nil {
			y.set(StateBroken, err)
			errs = append(errs, fmt.Errorf("%s: %w", y.name, err))
			continue
		}
		y.set(l.good(y), nil)
	}
	l.publish()
	return errors.Join(errs...)
}

// missing names what keeps this from being called locked. The lock is held.
func (l *Lock) missing() (why []string) {
	for _, y := range l.layers {
		if y.state == StateOK || !y.needed || l.covered(y.name) {
			continue
		}
		s := y.name + " " + strings.ReplaceAll(y.state, "_", " ")
		if y.detail != "" {
			s += " (" + y.detail + ")"
		}
		why = append(why, s)
	}
	return why
}

// covered: where the kernel lacks one of the three tables, BPF at ingress and egress of every
// link does what it would do.
func (l *Lock) covered(name string) bool {
	if name != NftInet && name != NftARP && name != NftBridge {
		return false
	}
	return l.layer(name).state == StateMissing && l.layer(TC).state == StateOK
}

func (l *Lock) layer(name string) *layer {
	i := slices.IndexFunc(l.layers, func(y *layer) bool { return y.name == name })
	return l.layers[i]
}

// publish makes what State returns. The lock is held.
func (l *Lock) publish() {
	s := evidence.Lock{Lock: evidence.Locked, Grade: evidence.GradeB}
	if l.bare {
		s.Grade = evidence.GradeA
	}
	if why := l.missing(); len(why) > 0 || !l.applied {
		s.Lock, s.Grade, s.Why = evidence.Open, evidence.None, strings.Join(why, "; ")
	}
	if len(l.open) > 0 {
		s.Lock, s.Grade = evidence.Open, evidence.None
		s.Why = "open for maintenance: " + strings.Join(l.open, " ")
	}
	for _, y := range l.layers {
		s.Layers = append(s.Layers, evidence.Layer{Name: y.name, State: y.state, Needed: y.needed, Detail: y.detail})
	}
	l.stateMu.Lock()
	l.state = s
	l.stateMu.Unlock()
}

// State tells the lock and each layer as they were found last, and what was refused since the
// Lock was made. It waits for nothing.
func (l *Lock) State() evidence.Lock {
	l.stateMu.Lock()
	s := l.state
	l.stateMu.Unlock()
	s.Layers = slices.Clone(s.Layers)
	s.Refused, s.Strikes = l.report.totals()
	s.Usec = l.cfg.Now().Microseconds()
	return s
}
