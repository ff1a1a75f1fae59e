package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Support tells what the kernel has: nil, or why not.
type Support struct {
	TCX     error // Linux 6.6: programs at a link without a qdisc
	Clsact  error // the qdisc that carries them before; CONFIG_NET_SCH_INGRESS
	Cgroup  error // Linux 4.18: programs at connect and sendmsg of a cgroup
	RingBuf error // Linux 5.8: refusals are reported, not only counted
}

// Detect tries. It attaches nothing and leaves nothing behind.
func Detect() Support {
	return Support{TCX: haveTCX(), Clsact: haveClsact(), Cgroup: haveCgroup(), RingBuf: haveRing()}
}

// haveTCX asks what is attached at lo: a kernel without tcx does not know the question.
func haveTCX() error {
	_, err := link.QueryPrograms(link.QueryOptions{Target: loopback, Attach: ebpf.AttachTCXIngress})
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("tcx: %w", err)
}

func haveCgroup() error {
	return withMemlock(func() error {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupUDP4Sendmsg, License: license,
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, cgroupPass), asm.Return()},
		})
		if err != nil {
			return fmt.Errorf("cgroup programs: %w", err)
		}
		return p.Close()
	})
}

// haveRing is asked once: kernels do not change.
var haveRing = sync.OnceValue(func() error {
	return withMemlock(func() error {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
		if err != nil {
			return fmt.Errorf("ring buffer: %w", err)
		}
		return m.Close()
	})
})

// haveClsact asks for a clsact qdisc at lo with a block number that is never valid. A kernel
// that has clsact finds that; one that has not does not know the name. Neither makes one.
func haveClsact() error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: loopback, Handle: clsactHandle, Parent: clsactParent})
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("clsact")))
	req.AddData(nl.NewRtAttr(nl.TCA_INGRESS_BLOCK, nl.Uint32Attr(0)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EEXIST):
		return nil
	case err == nil:
		return errors.New("clsact: the kernel took a qdisc that cannot be")
	}
	return fmt.Errorf("clsact: %w", err)
}
