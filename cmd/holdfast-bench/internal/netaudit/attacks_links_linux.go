package netaudit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// linkAttacks are races: something happens to a link, and the attacker sends meanwhile without a
// pause. What happens is done by hands, as by a person with an adapter or a service of the board.
func linkAttacks() []*attack {
	udp := []string{"udp"}
	return in(groupLinks, []*attack{
		{name: "adapter plugged in", plain: "a network adapter is plugged in while a program sends all the time", want: udp, race: plugIn},
		{name: "link renamed", plain: "a link gets another name while a program sends all the time", want: udp, race: rename},
		{name: "link moved in from elsewhere", plain: "a link comes back from a container while a program sends all the time", want: udp, race: moveIn},
		{name: "link set up again", plain: "a service of the board sets a link up again while a program sends all the time", want: udp, race: setUpAgain},
	})
}

// quiet is what the lock gets to meet a link before something happens to it.
const quiet = 15 * time.Millisecond

// newLink makes the link of a repeat, gone at its end.
func (b *board) newLink(t *trial, k int, name string, flags net.Flags) error {
	v := netlink.NewVeth(netlink.LinkAttrs{Name: name, HardwareAddr: wire.MAC(t.id), TxQLen: 1000, Flags: flags})
	v.PeerName, v.PeerNamespace, v.PeerHardwareAddr = raceFar(t.id, k), netlink.NsFd(b.farNS.Fd()), wire.FarMAC
	return t.addLink(v)
}

func raceAddress(name string, id int) error {
	return address(name, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 92, byte(id), 1}), 24))
}

func plugIn(b *board, t *trial, k int) error {
	if err := b.newLink(t, k, raceLink, net.FlagUp); err != nil {
		return err
	}
	return raceAddress(raceLink, t.id)
}

func rename(b *board, t *trial, k int) error {
	if err := b.newLink(t, k, "old0", net.FlagUp); err != nil {
		return err
	}
	time.Sleep(quiet)
	if err := change("old0", func(l netlink.Link) error { return netlink.LinkSetName(l, raceLink) }); err != nil {
		return err
	}
	if err := up(raceLink); err != nil {
		return err
	}
	return raceAddress(raceLink, t.id)
}

func setUpAgain(b *board, t *trial, k int) error {
	if err := b.newLink(t, k, raceLink, 0); err != nil {
		return err
	}
	time.Sleep(quiet)
	for range 5 {
		if err := up(raceLink); err != nil {
			return err
		}
		pause()
	}
	return raceAddress(raceLink, t.id)
}

// mover is a process in another namespace that makes links and gives them to the board.
type mover struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (b *board) mover(id int) (*mover, error) {
	t := b.trial(id)
	if m, ok := t.keep["mover"].(*mover); ok {
		return m, nil
	}
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	cmd := self("step", "mover", strconv.Itoa(id))
	cmd.ExtraFiles = []*os.File{own, b.farNS}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	m := &mover{cmd: cmd}
	if m.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	m.out = bufio.NewReader(stdout)
	t.keep["mover"] = m
	return m, cmd.Start()
}

func moveIn(b *board, t *trial, k int) error {
	m, err := b.mover(t.id)
	if err != nil {
		return err
	}
	fmt.Fprintln(m.in, k)
	said, err := m.out.ReadString('\n')
	if err != nil || said != "ok\n" {
		return fmt.Errorf("mover: %s: %w", strings.TrimSpace(said), err)
	}
	t.deferred(func() { _ = remove(raceLink) }) // it may be gone
	if err := up(raceLink); err != nil {
		return err
	}
	return raceAddress(raceLink, t.id)
}

// runMover serves the other end: descriptor 3 is the board's namespace, 4 the far side's.
func runMover(t *trial) error {
	home, far := os.NewFile(3, "home"), os.NewFile(4, "far")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		said := "ok"
		if err := giveLink(t.id, number(in.Text()), home, far); err != nil {
			said = err.Error()
		}
		fmt.Println(said)
	}
	return in.Err()
}

func giveLink(id, k int, home, far *os.File) error {
	if err := pair(raceLink, raceFar(id, k), wire.MAC(id), wire.FarMAC, far); err != nil {
		return err
	}
	return change(raceLink, func(l netlink.Link) error { return netlink.LinkSetNsFd(l, int(home.Fd())) })
}

// driverSuffix is of links whose far side has a program in its driver too: only then does the
// driver of the board's end send.
const driverSuffix = "x"

// passAll gives a link of the far side a program that lets all pass.
func passAll(index int) (io.Closer, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: link.XDPDriverMode})
}

// receiveOffload makes a virtual link take frames from programs in network drivers.
func receiveOffload(name string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	ethtoolSet(fd, name, ethtoolSetGRO, 1)
}
