package bpf

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrLoopback: lo is not a way out, and stays open.
var ErrLoopback = errors.New("bpf: loopback is not closed")

// tcPlaces is in the order of attaching: what leaves comes first.
var tcPlaces = []place{
	{TCEgress, "hf_tc_egress", ebpf.SchedCLS, ebpf.AttachTCXEgress, (*kit).tcEgress},
	{TCIngress, "hf_tc_ingress", ebpf.SchedCLS, ebpf.AttachTCXIngress, (*kit).tcIngress},
}

// TC drops every frame at egress and ingress of links, in the network namespace of this process.
// What it attaches stays when the process ends. Its methods may be called at the same time.
type TC struct {
	mu     sync.Mutex
	clsact bool
	routes *netlink.Handle // nil: closed
	state  *state
	progs  []twins
}

// NewTC loads the programs. It attaches nothing: Add does. Counters and events of a process
// before this one go on. It needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and, for taking over,
// CAP_SYS_ADMIN.
func NewTC() (*TC, error) {
	t := &TC{clsact: haveTCX() != nil}
	var err error
	if t.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("tc: %w", err)
	}
	ring := uint32(tcRing)
	if haveRing() != nil {
		ring = 0
	}
	if t.state, err = newState(t.oldEverywhere(), ring); err != nil {
		t.routes.Close()
		return nil, fmt.Errorf("tc: %w", err)
	}
	if t.progs, err = loadAll(tcPlaces, t.state); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("tc: %w", err)
	}
	return t, nil
}

// ForceClsact attaches by clsact and cls_bpf even where the kernel has tcx. It is for tests, and
// counts for links that are added after it.
func (t *TC) ForceClsact() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clsact = true
}

// Add closes a link, or closes it again. Once it has returned nil, no frame passes the programs.
// An error that wraps ENODEV means that the link has gone.
func (t *TC) Add(ifindex int) error {
	return t.locked(ifindex, func() error {
		if t.clsact {
			return t.addFilters(ifindex)
		}
		return t.both(func(p *twins) error { return p.attachFirst(ifindex) })
	})
}

// Drop opens a link: it takes the programs of this package away, whichever process attached them,
// and nothing else. For a link that has gone there is nothing to do.
func (t *TC) Drop(ifindex int) error {
	return t.locked(ifindex, func() error {
		return t.both(func(p *twins) error {
			if t.clsact {
				return t.removeFilters(ifindex, p)
			}
			ids, err := attached(ifindex, p.attach)
			if errors.Is(err, unix.ENODEV) {
				return nil
			}
			if err != nil {
				return err
			}
			return p.removeOthers(ifindex, ids, -1)
		})
	})
}

// Verify tells whether our programs are the first ones at the link, in both directions: one
// before them could let frames pass. The error wraps ErrDetached or ErrOrder, or it is the
// kernel's.
func (t *TC) Verify(ifindex int) error {
	return t.locked(ifindex, func() error {
		return t.both(func(p *twins) error {
			if t.clsact {
				return t.verifyFilter(ifindex, p)
			}
			return p.verifyFirst(ifindex)
		})
	})
}

// locked runs f for a link that may be closed.
func (t *TC) locked(ifindex int, f func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.routes == nil:
		return ErrClosed
	case ifindex == loopback:
		return ErrLoopback
	}
	return f()
}

// both runs f for both directions and joins the errors.
func (t *TC) both(f func(*twins) error) error {
	var all error
	for i := range t.progs {
		if err := f(&t.progs[i]); err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", t.progs[i].hook, err))
		}
	}
	return all
}

// Counters returns the frames dropped by name of the hook, of all links.
func (t *TC) Counters() (map[string]uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.routes == nil {
		return nil, ErrClosed
	}
	return sums(t.state.drops, hooksOf(tcPlaces))
}

// Events starts to read which frames links would have sent, as Cgroup.Events does. Frames have a
// user at most, no process. What links receive is counted and not reported.
func (t *TC) Events(give func(Event)) (*Reader, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.routes == nil {
		return nil, ErrClosed
	}
	return newReader(t.state, hooksOf(tcPlaces), give)
}

// Close gives back descriptors. The programs stay attached and go on dropping. Close the Reader
// first.
func (t *TC) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.routes == nil {
		return nil
	}
	closeAll(t.progs)
	t.state.close()
	t.routes.Close()
	t.routes = nil
	return nil
}

// oldEverywhere lists programs of ours at all links of this namespace.
func (t *TC) oldEverywhere() []ebpf.ProgramID {
	links, err := net.Interfaces()
	if err != nil {
		return nil // then counters start at 0
	}
	var old []ebpf.ProgramID
	for _, l := range links {
		old = append(old, oldPrograms(l.Index, tcPlaces)...)
		for _, p := range tcPlaces {
			filters, _ := t.filters(l.Index, p.hook)
			for _, f := range filters {
				if programName(ebpf.ProgramID(f.id)) == p.name {
					old = append(old, ebpf.ProgramID(f.id))
				}
			}
		}
	}
	return old
}

func (t *twins) verifyFirst(ifindex int) error {
	ids, err := attached(ifindex, t.attach)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if t.which(id) < 0 {
			continue
		}
		if i > 0 {
			return fmt.Errorf("%w: %q runs before ours", ErrOrder, programName(ids[0]))
		}
		return nil
	}
	return ErrDetached
}

// attachFirst makes one of the twins the first program, and then takes away all others of ours.
// One of them that cannot be taken away is never asked.
func (t *twins) attachFirst(ifindex int) error {
	ids, err := attached(ifindex, t.attach)
	if err != nil {
		return err
	}
	if len(ids) > 0 && t.which(ids[0]) >= 0 {
		_ = t.removeOthers(ifindex, ids, t.which(ids[0]))
		return nil
	}
	use, err := t.spare(ifindex, ids)
	if err != nil {
		return err
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: ifindex, Attach: t.attach, Program: t.progs[use], Anchor: link.Head(),
	})
	if err != nil {
		return err
	}
	_ = t.removeOthers(ifindex, ids, use)
	return t.verifyFirst(ifindex)
}
