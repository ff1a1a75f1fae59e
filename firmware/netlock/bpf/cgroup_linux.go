package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Errors of Verify. The text around them names the hook.
var (
	// ErrDetached: a program of ours is not where it was attached, or was replaced.
	ErrDetached = errors.New("detached")
	// ErrOrder: another program runs at a place from which it can undo what ours decides.
	ErrOrder = errors.New("another program decides")
	// ErrClosed: the value was closed.
	ErrClosed = errors.New("bpf: closed")
	// ErrNoEvents: this kernel has no ring buffers (Linux before 5.8); refusals are only counted.
	ErrNoEvents = errors.New("bpf: this kernel has no ring buffers")
)

// allowMulti (BPF_F_ALLOW_MULTI) lets programs of others, such as systemd's, be attached too. All
// run, and each can refuse.
const allowMulti = 2

// cgroupPlaces is in the order of attaching: what lets nothing through comes first.
var cgroupPlaces = []place{
	{Egress, "hf_egress", ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress, (*kit).egress},
	{Ingress, "hf_ingress", ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, (*kit).ingress},
	{Connect4, "hf_connect4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, (*kit).address4},
	{Connect6, "hf_connect6", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect, (*kit).address6},
	{Sendmsg4, "hf_sendmsg4", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Sendmsg, (*kit).address4},
	{Sendmsg6, "hf_sendmsg6", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP6Sendmsg, (*kit).address6},
	{Bind4, "hf_bind4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Bind, (*kit).address4},
	{Bind6, "hf_bind6", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Bind, (*kit).address6},
	{Socket, "hf_socket", ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate, (*kit).socket},
}

// Cgroup refuses what the processes of a cgroup (v2) and of those below it try to send. The rules:
//
//   - A socket of IPv4 or IPv6 is TCP, MPTCP or UDP, or it is refused: no raw sockets, ping
//     sockets, UDP-Lite, SCTP, DCCP. Other families, AF_UNIX and AF_NETLINK among them, are not seen.
//   - connect and sendmsg lead to loopback (127.0.0.0/8, ::1, ::ffff:127.0.0.0/104) or to the
//     unspecified address, which the kernel takes for loopback. IPv4 groups are sent to from
//     sockets bound to loopback.
//   - bind is to loopback or to the unspecified address. MAVSDK and many others bind 0.0.0.0 and
//     use loopback alone; what comes in by a link does not reach them.
//   - Whatever packet is not on lo is dropped, in and out, so also those of sockets that were
//     connected before.
//
// Its methods may be called at the same time.
type Cgroup struct {
	mu    sync.Mutex
	dir   *os.File
	state *state
	progs []twins
}

// NewCgroup loads the programs and attaches them at path, the folder of a cgroup v2. Programs of
// a process before this one are replaced; their counters and events go on. On an error what was
// attached before stays attached. It needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and, for taking
// over, CAP_SYS_ADMIN.
func NewCgroup(path string) (*Cgroup, error) {
	if haveRing() != nil {
		return newCgroup(path, 0)
	}
	return newCgroup(path, cgroupRing)
}

func newCgroup(path string, ring uint32) (*Cgroup, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	c := &Cgroup{dir: dir}
	if c.state, err = newState(oldPrograms(int(dir.Fd()), cgroupPlaces), ring); err != nil {
		_ = dir.Close()
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	if c.progs, err = loadAll(cgroupPlaces, c.state); err == nil {
		err = c.Attach()
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return c, nil
}

// Attach puts all programs where they belong again, after Detach or after Verify found one
// missing. It does nothing for those that are in their place.
func (c *Cgroup) Attach() error {
	return c.each(func(t *twins) error {
		if err := t.attachLast(int(c.dir.Fd())); err != nil {
			return fmt.Errorf("%s: %w", t.hook, err)
		}
		return nil
	})
}

// Verify tells whether every program is attached and decides. The error wraps ErrDetached or
// ErrOrder, or it is the kernel's.
func (c *Cgroup) Verify() error {
	return c.each(func(t *twins) error {
		if err := t.verifyLast(int(c.dir.Fd())); err != nil {
			return fmt.Errorf("%s: %w", t.hook, err)
		}
		return nil
	})
}

// Detach takes the programs away: the processes of the cgroup may send again, as far as other
// layers let them.
func (c *Cgroup) Detach() error {
	return c.each(func(t *twins) error {
		ids, err := attached(int(c.dir.Fd()), t.attach)
		if err != nil {
			return fmt.Errorf("%s: %w", t.hook, err)
		}
		return t.removeOthers(int(c.dir.Fd()), ids, -1)
	})
}

// each runs f for every hook and joins the errors.
func (c *Cgroup) each(f func(*twins) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == nil {
		return ErrClosed
	}
	var all error
	for i := range c.progs {
		all = errors.Join(all, f(&c.progs[i]))
	}
	return all
}

// Counters returns how many refusals there were by name of the hook, since the programs were
// first attached; those of processes before this one are in it.
func (c *Cgroup) Counters() (map[string]uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == nil {
		return nil, ErrClosed
	}
	return sums(c.state.drops, hooksOf(cgroupPlaces))
}

// Events starts to read what was refused and calls give for each, from one goroutine, until the
// Reader is closed. Only one Reader may be open for a cgroup. Without ring buffers it is
// ErrNoEvents.
func (c *Cgroup) Events(give func(Event)) (*Reader, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == nil {
		return nil, ErrClosed
	}
	return newReader(c.state, hooksOf(cgroupPlaces), give)
}

// Close gives back descriptors. The programs stay attached and go on refusing. Close the Reader
// first.
func (c *Cgroup) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == nil {
		return nil
	}
	closeAll(c.progs)
	c.state.close()
	err := c.dir.Close()
	c.dir = nil
	return err
}

func hooksOf(places []place) []Hook {
	all := make([]Hook, len(places))
	for i, p := range places {
		all[i] = p.hook
	}
	return all
}

// verifyLast: of the programs at a cgroup each can refuse, but one that runs later can take a
// refusal back (bpf_set_retval, Linux 5.18). So ours is the last. Those of cgroups below run
// before it.
func (t *twins) verifyLast(cgroup int) error {
	ids, err := attached(cgroup, t.attach)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if t.which(id) < 0 {
			continue
		}
		if i != len(ids)-1 {
			return fmt.Errorf("%w: %q runs after ours", ErrOrder, programName(ids[len(ids)-1]))
		}
		return nil
	}
	return ErrDetached
}

// attachLast makes one of the twins the last program, and then takes away all others of ours. One
// of them that cannot be taken away (somebody made a link object of it) only refuses once more.
func (t *twins) attachLast(cgroup int) error {
	ids, err := attached(cgroup, t.attach)
	if err != nil {
		return err
	}
	if n := len(ids); n > 0 && t.which(ids[n-1]) >= 0 {
		_ = t.removeOthers(cgroup, ids, t.which(ids[n-1]))
		return nil
	}
	use, err := t.spare(cgroup, ids)
	if err != nil {
		return err
	}
	if t.replaceLast(cgroup, ids, use) != nil {
		err = link.RawAttachProgram(link.RawAttachProgramOptions{
			Target: cgroup, Attach: t.attach, Program: t.progs[use], Flags: allowMulti,
		})
		if err != nil {
			return err
		}
	}
	_ = t.removeOthers(cgroup, ids, use)
	return t.verifyLast(cgroup)
}

// replaceLast puts a twin in the very place of an older program of ours, where that is the last
// one: nothing is refused twice. It needs Linux 5.5.
func (t *twins) replaceLast(cgroup int, ids []ebpf.ProgramID, use int) error {
	if len(ids) == 0 || !t.ours(ids[len(ids)-1]) {
		return ErrDetached
	}
	old, err := ebpf.NewProgramFromID(ids[len(ids)-1])
	if err != nil {
		return err
	}
	defer old.Close()
	return link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: cgroup, Attach: t.attach, Program: t.progs[use], Flags: allowMulti, Anchor: link.ReplaceProgram(old),
	})
}

// spare returns a twin that is not in ids. If both are, it takes the first of them away: the
// other one stays.
func (t *twins) spare(target int, ids []ebpf.ProgramID) (int, error) {
	var in [2]bool
	for _, id := range ids {
		if i := t.which(id); i >= 0 {
			in[i] = true
		}
	}
	switch {
	case !in[0]:
		return 0, nil
	case !in[1]:
		return 1, nil
	}
	return 0, detach(target, t.attach, t.ids[0])
}

// removeOthers takes away the programs of ours among ids, but the twin that is to stay. One that
// has gone meanwhile is none to take away.
func (t *twins) removeOthers(target int, ids []ebpf.ProgramID, stays int) error {
	var all error
	for _, id := range ids {
		if stays >= 0 && id == t.ids[stays] || !t.ours(id) {
			continue
		}
		if err := detach(target, t.attach, id); err != nil && !errors.Is(err, unix.ENOENT) {
			all = errors.Join(all, fmt.Errorf("an older program: %w", err))
		}
	}
	return all
}
