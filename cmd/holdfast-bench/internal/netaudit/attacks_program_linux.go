package netaudit

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// programAttacks put a program or a rule into the kernel that sends. Loopback is where most
// locks do not look: what is for an address of it is sent on from there.
func programAttacks() []*attack {
	udp, other := []string{"udp"}, []string{"0x88b5"}
	pairOf := []linkPlan{{suffix: "a"}, {suffix: "b"}}
	reflected := func(suffix string) func(int) []sent {
		return func(id int) []sent {
			return []sent{{ownFar(id, suffix), wire.Ether(wire.BoardMAC, wire.FarMAC, wire.TypePrivate, wire.Mark(id))}}
		}
	}
	all := []*attack{
		{name: "tcx program that redirects", plain: "a program in the system sends on what goes over loopback", want: udp, run: func(t *trial) error { return t.tcxOnLo(asm.FnRedirect) }, lacks: noTCX},
		{name: "tcx program that copies", plain: "the same with a copy", want: udp, run: func(t *trial) error { return t.tcxOnLo(asm.FnCloneRedirect) }, lacks: noTCX},
		{name: "clsact program that redirects", plain: "the same by the older way to load such programs", want: udp, run: clsactOnLo},
		{name: "tc rule that mirrors", plain: "the same by a rule without a program", want: udp, run: mirredOnLo},
		{name: "nftables rule that duplicates", plain: "a firewall rule that sends copies", want: udp, run: dupOnLo},
		{name: "cgroup program that changes the destination", plain: "a program in the system turns a message to oneself into one for the far side", want: udp, run: rewrite, lacks: lacksCgroup},
		{name: "BPF test run that copies", plain: "a program is tried out, and what it is tried with leaves", want: other, run: testRun},
		{name: "BPF test run with live frames", plain: "the same at the network driver", want: other, run: liveFrames},
		{name: "XDP program that reflects", plain: "what the far side sends is sent back", want: other, links: one, run: func(t *trial) error { return t.reflect(t.own(""), link.XDPGenericMode) }, far: reflected("")},
		{name: "XDP program that reflects, in the driver", plain: "the same in the network driver", want: other, links: []linkPlan{{suffix: driverSuffix}}, run: func(t *trial) error { return t.reflect(t.own(driverSuffix), link.XDPDriverMode) }, far: reflected(driverSuffix)},
		{name: "XDP program that redirects", plain: "what comes in at one link goes out at another", want: other, links: pairOf, run: func(t *trial) error { return t.redirect(link.XDPGenericMode) }, far: reflected("a")},
		{name: "XDP program that redirects, in the driver", plain: "the same in the network driver", want: other, links: pairOf, run: func(t *trial) error { return t.redirect(link.XDPDriverMode) }, far: reflected("a")},
	}
	for _, a := range all {
		if a.links == nil {
			a.links = one
		}
	}
	return asRoot(in(groupKernelIn, all))
}

// inner is the loopback address whose messages are sent on.
func (t *trial) inner() netip.Addr { return netip.AddrFrom4([4]byte{127, 7, 0, byte(t.id)}) }

func (t *trial) sendInner() error { return t.udp(sinkOf(t.inner()), nil) }

func noTCX() string {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, tcNext), asm.Return()}})
	if err != nil {
		return "the kernel has no BPF for links"
	}
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: 1, Program: p, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		return "the kernel has no tcx"
	}
	l.Close()
	return ""
}

// Verdicts of programs at links, and offsets.
const (
	tcNext      = -1
	tcUnspec    = -1 // with clsact: what is configured
	tcOK        = 0
	xdpPass     = 2
	xdpTX       = 3
	innerOffset = 14 + 16 // of the destination in an IPv4 frame
)

// program loads one that is gone with the trial.
func (t *trial) program(kind ebpf.ProgramType, attach ebpf.AttachType, code asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, AttachType: attach, License: "Apache-2.0", Instructions: code})
	if err != nil {
		return nil, fmt.Errorf("load the program: %w", err)
	}
	t.deferred(func() { p.Close() })
	return p, nil
}

// onInner sends what is for the inner address by the attack's link, and leaves all else alone.
func (t *trial) onInner(f asm.BuiltinFunc) (asm.Instructions, error) {
	index, err := linkIndex(t.own(""))
	if err != nil {
		return nil, err
	}
	to := t.inner().As4()
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(innerOffset, asm.Word),
		asm.LoadImm(asm.R1, int64(binary.BigEndian.Uint32(to[:])), asm.DWord),
		asm.JNE.Reg(asm.R0, asm.R1, "other"),
	}
	if f == asm.FnCloneRedirect {
		code = append(code, asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, int32(index)), asm.Mov.Imm(asm.R3, 0), f.Call(), asm.Mov.Imm(asm.R0, tcOK))
	} else {
		code = append(code, asm.Mov.Imm(asm.R1, int32(index)), asm.Mov.Imm(asm.R2, 0), f.Call())
	}
	return append(code, asm.Return(), asm.Mov.Imm(asm.R0, tcNext).WithSymbol("other"), asm.Return()), nil
}

func (t *trial) tcxOnLo(f asm.BuiltinFunc) error {
	code, err := t.onInner(f)
	if err != nil {
		return err
	}
	p, err := t.program(ebpf.SchedCLS, ebpf.AttachTCXEgress, code)
	if err != nil {
		return err
	}
	index, err := linkIndex("lo")
	if err != nil {
		return err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: ebpf.AttachTCXEgress, Anchor: link.Head()})
	if err != nil {
		return err
	}
	t.deferred(func() { l.Close() })
	return t.sendInner()
}

// clsactLo makes sure that lo has a place for filters. Several attacks share it.
func clsactLo() (int, error) {
	index, err := linkIndex("lo")
	if err != nil {
		return 0, err
	}
	err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)}})
	if err == unix.EEXIST {
		err = nil
	}
	return index, err
}

func clsactOnLo(t *trial) error {
	code, err := t.onInner(asm.FnRedirect)
	if err != nil {
		return err
	}
	p, err := t.program(ebpf.SchedCLS, ebpf.AttachNone, code)
	if err != nil {
		return err
	}
	lo, err := clsactLo()
	if err != nil {
		return err
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: lo, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_ALL, Priority: uint16(t.id)},
		Fd:          p.FD(), Name: t.virtual("f"), DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	t.deferred(func() { _ = netlink.FilterDel(filter) }) // goes with the namespace
	return t.sendInner()
}

func mirredOnLo(t *trial) error {
	lo, err := clsactLo()
	if err != nil {
		return err
	}
	out, err := linkIndex(t.own(""))
	if err != nil {
		return err
	}
	to := t.inner().As4()
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: lo, Parent: netlink.HANDLE_MIN_EGRESS, Protocol: unix.ETH_P_IP, Priority: uint16(t.id)},
		Sel:         &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: []netlink.TcU32Key{{Mask: 0xffffffff, Val: binary.BigEndian.Uint32(to[:]), Off: 16}}},
		Actions:     []netlink.Action{netlink.NewMirredAction(out)},
	}
	if err := netlink.FilterAdd(filter); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return t.sendInner()
}

func dupOnLo(t *trial) error {
	index, err := linkIndex(t.own(""))
	if err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return err
	}
	to := t.inner().As4()
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: t.virtual("n")})
	chain := c.AddChain(&nftables.Chain{Name: "in", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFirst, Device: "lo"})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: to[:]},
		&expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint32(nil, uint32(index))},
		&expr.Dup{RegDev: 1, IsRegDevSet: true},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("rule: %w", err)
	}
	return t.sendInner()
}

// Fields of the context of a program at connect and sendmsg (struct bpf_sock_addr).
const sockAddrIP4 = 4

// rewrite attaches to the attacker's own cgroup, as the lock does.
func rewrite(t *trial) error {
	from, to := t.inner().As4(), t.far4().As4()
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, sockAddrIP4, asm.Word),
		asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint32(from[:])), asm.DWord),
		asm.JNE.Reg(asm.R2, asm.R3, "other"),
		asm.LoadImm(asm.R3, int64(binary.NativeEndian.Uint32(to[:])), asm.DWord),
		asm.StoreMem(asm.R6, sockAddrIP4, asm.R3, asm.Word),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("other"),
		asm.Return(),
	}
	p, err := t.program(ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Sendmsg, code)
	if err != nil {
		return err
	}
	dir, err := ownCgroup()
	if err != nil {
		return err
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: ebpf.AttachCGroupUDP4Sendmsg, Program: p})
	if err != nil {
		return err
	}
	t.deferred(func() { l.Close() })
	return t.sendInner()
}

// ownCgroup is the folder of this process's cgroup; it refuses any but the audit's.
func ownCgroup() (string, error) {
	p, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(p)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && strings.Contains(path, "/holdfast-audit-") {
			return filepath.Join(cgroupInside, path), nil
		}
	}
	return "", fmt.Errorf("cgroup of this process: %w", os.ErrNotExist)
}

func testRun(t *trial) error {
	index, err := linkIndex(t.own(""))
	if err != nil {
		return err
	}
	p, err := t.program(ebpf.SchedCLS, ebpf.AttachNone, asm.Instructions{
		asm.Mov.Imm(asm.R2, int32(index)), asm.Mov.Imm(asm.R3, 0), asm.FnCloneRedirect.Call(), asm.Mov.Imm(asm.R0, tcOK), asm.Return(),
	})
	if err != nil {
		return err
	}
	_, err = p.Run(&ebpf.RunOptions{Data: t.private(wire.MAC(t.id))})
	return err
}

// liveFramesFlag is BPF_F_TEST_XDP_LIVE_FRAMES.
const liveFramesFlag = 2

func liveFrames(t *trial) error {
	p, err := t.redirectTo(t.own(""))
	if err != nil {
		return err
	}
	context := make([]byte, 24) // struct xdp_md: data, data_end, ...
	frame := t.private(wire.MAC(t.id))
	binary.NativeEndian.PutUint32(context[4:], uint32(len(frame)))
	binary.NativeEndian.PutUint32(context[12:], 1) // ingress link: lo
	_, err = p.Run(&ebpf.RunOptions{Data: frame, Context: context, Repeat: 1, Flags: liveFramesFlag})
	return err
}

func (t *trial) redirectTo(name string) (*ebpf.Program, error) {
	index, err := linkIndex(name)
	if err != nil {
		return nil, err
	}
	return t.program(ebpf.XDP, ebpf.AttachXDP, asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
	})
}

func (t *trial) attachXDP(name string, p *ebpf.Program, mode link.XDPAttachFlags) error {
	index, err := linkIndex(name)
	if err != nil {
		return err
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: mode})
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	t.deferred(func() { l.Close() })
	return nil
}

func (t *trial) reflect(name string, mode link.XDPAttachFlags) error {
	p, err := t.program(ebpf.XDP, ebpf.AttachXDP, asm.Instructions{asm.Mov.Imm(asm.R0, xdpTX), asm.Return()})
	if err != nil {
		return err
	}
	return t.attachXDP(name, p, mode)
}

func (t *trial) redirect(mode link.XDPAttachFlags) error {
	p, err := t.redirectTo(t.own("b"))
	if err != nil {
		return err
	}
	return t.attachXDP(t.own("a"), p, mode)
}
