package netaudit

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// lockAttacks change the lock itself, then send in every way they can. Each has a board of its own.
func lockAttacks() []*attack {
	all := []*attack{
		{name: "flush the rules", plain: "delete all firewall rules at once, then send", run: after(flushRules)},
		{name: "delete the tables", plain: "delete the firewall's tables one by one, then send", run: after(deleteTables)},
		{name: "put the tables to sleep", plain: "switch the firewall's tables off without deleting them, then send", run: after(sleepTables)},
		{name: "accept rule in the lock's chains", plain: "write \"let all pass\" before the lock's own rules, then send", run: after(acceptFirst)},
		{name: "accept rule at an earlier priority", plain: "let all pass before the lock is asked, then send", run: after(acceptEarlier)},
		{name: "detach the programs of links", plain: "take the lock's programs off the links, then send", run: after(detachLinks)},
		{name: "detach the programs of the cgroup", plain: "take the lock's programs off the board's programs, then send", run: after(detachCgroup), lacks: lacksCgroup},
		{name: "kill the guard", plain: "kill the program that keeps the lock, then send", run: after(func(t *trial) error { return t.signal(unix.SIGKILL) })},
		{name: "stop the guard", plain: "freeze that program, then send", run: after(func(t *trial) error { return t.signal(unix.SIGSTOP) })},
		{name: "set links up again", plain: "set the links up, again and again, and send", run: after(func(*trial) error { return nil })},
		{name: "everything at once", plain: "kill that program, delete all rules and programs, then send", run: after(everything)},
	}
	for _, a := range all {
		a.alone, a.want = true, []string{"udp", "0x88b5"}
	}
	return asRoot(in(groupLock, all))
}

// strike is how long is sent after a blow against the lock.
const strike = 600 * time.Millisecond

// after does f, and then sends on the shared link, whatever became of f.
func after(f func(*trial) error) func(*trial) error {
	return func(t *trial) error {
		err := f(t)
		for end := time.Now().Add(strike); time.Now().Before(end); pause() {
			if e := sendAny(t); e != nil && err == nil {
				err = e
			}
		}
		return err
	}
}

func sendAny(t *trial) error {
	step := &trial{id: t.id, crew: t.crew, keep: map[string]any{}}
	defer step.close()
	return errors.Join(step.udp(sinkOf(t.far4()), nil), step.packet(t.private(wire.MAC(t.id))))
}

func (t *trial) signal(s unix.Signal) error {
	if t.crew.guard == 0 {
		return nil // there is no lock
	}
	return unix.Kill(t.crew.guard, s)
}

func flushRules(*trial) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.FlushRuleset()
	return c.Flush()
}

// eachTable does f with every table that is there.
func eachTable(f func(*nftables.Conn, *nftables.Table) error) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return err
	}
	var errs []error
	for _, table := range tables {
		if err := f(c, table); err != nil {
			errs = append(errs, fmt.Errorf("table %s: %w", table.Name, err))
		}
	}
	return errors.Join(errs...)
}

func deleteTables(*trial) error {
	return eachTable(func(c *nftables.Conn, table *nftables.Table) error {
		c.DelTable(table)
		return c.Flush()
	})
}

func sleepTables(*trial) error {
	return eachTable(func(_ *nftables.Conn, table *nftables.Table) error { return tableFlags(table, tableDormant) })
}

func acceptFirst(*trial) error {
	return eachTable(func(c *nftables.Conn, table *nftables.Table) error {
		chains, err := c.ListChainsOfTableFamily(table.Family)
		if err != nil {
			return err
		}
		for _, chain := range chains {
			if chain.Table.Name == table.Name {
				c.InsertRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
			}
		}
		return c.Flush()
	})
}

func acceptEarlier(t *trial) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	first := nftables.ChainPriorityRef(-2000)
	for family, hooks := range map[nftables.TableFamily][]*nftables.ChainHook{
		nftables.TableFamilyINet:   {nftables.ChainHookOutput, nftables.ChainHookPostrouting, nftables.ChainHookForward},
		nftables.TableFamilyARP:    {nftables.ChainHookOutput},
		nftables.TableFamilyBridge: {nftables.ChainHookOutput, nftables.ChainHookForward, nftables.ChainHookPostrouting},
	} {
		table := c.AddTable(&nftables.Table{Family: family, Name: t.virtual("n")})
		for i, hook := range hooks {
			chain := c.AddChain(&nftables.Chain{Name: fmt.Sprint("c", i), Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: first})
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
		}
	}
	return c.Flush()
}

// detach takes off all programs at one place. What another namespace has is never touched:
// the kernel looks links up in this one.
func detach(target int, at ebpf.AttachType) error {
	found, err := link.QueryPrograms(link.QueryOptions{Target: target, Attach: at})
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range found.Programs {
		errs = append(errs, detachOne(target, at, p))
	}
	return errors.Join(errs...)
}

func detachOne(target int, at ebpf.AttachType, p link.AttachedProgram) error {
	if id, ok := p.LinkID(); ok {
		l, err := link.NewFromID(id)
		if err != nil {
			return err
		}
		defer l.Close()
		return l.Detach()
	}
	prog, err := ebpf.NewProgramFromID(p.ID)
	if err != nil {
		return err
	}
	defer prog.Close()
	return link.RawDetachProgram(link.RawDetachProgramOptions{Target: target, Program: prog, Attach: at})
}

func detachLinks(*trial) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		index := l.Attrs().Index
		errs = append(errs, detach(index, ebpf.AttachTCXEgress), detach(index, ebpf.AttachTCXIngress))
		_ = netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)}}) // there may be none
	}
	return errors.Join(errs...)
}

// cgroupHooks are those where a lock may have programs.
var cgroupHooks = []ebpf.AttachType{
	ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetSockCreate, ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect,
	ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg, ebpf.AttachCGroupInet4Bind, ebpf.AttachCGroupInet6Bind,
	ebpf.AttachCGroupInet4PostBind, ebpf.AttachCGroupInet6PostBind,
}

func detachCgroup(*trial) error {
	dir, err := ownCgroup()
	if err != nil {
		return err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var errs []error
	for _, at := range cgroupHooks {
		errs = append(errs, detach(fd, at))
	}
	return errors.Join(errs...)
}

func everything(t *trial) error {
	return errors.Join(t.signal(unix.SIGKILL), detachLinks(t), detachCgroup(t), sleepTables(t), deleteTables(t), flushRules(t))
}

// ethtool requests (include/uapi/linux/ethtool.h).
const ethtoolSetGRO = 0x2c

// ethtoolSet switches one property of a link; a kernel without it leaves the link as it is.
func ethtoolSet(fd int, name string, command, value uint32) {
	data := [2]uint32{command, value}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = unsafe.Pointer(&data)
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))) // see above
}
