package netaudit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// one is a single link of an attack's own.
var one = []linkPlan{{}}

// earlierAttacks use sockets that were there before the lock, or come from somebody else. That
// another program opened them makes them of use to an ordinary user too.
func earlierAttacks() []*attack {
	udp, tcp, other := []string{"udp"}, []string{"tcp"}, []string{"0x88b5"}
	return in(groupEarlier, []*attack{
		{name: "UDP socket from before the lock", plain: "a message by a socket that was open when the lock closed", want: udp, before: keepUDP, run: useKept},
		{name: "TCP connection from before the lock", plain: "write to a connection that stood when the lock closed", want: tcp, before: keepTCP, run: useKept},
		{name: "UDP socket, inherited", plain: "use a socket that the program was started with", want: udp, lend: lendUDP, run: writeLent},
		{name: "TCP connection, inherited", plain: "the same with a connection", want: tcp, lend: lendTCP, run: writeLent},
		{name: "raw socket, inherited", plain: "a socket for administrators, kept by a program that has lost those powers", want: []string{"ip-253"}, lend: lendRaw, run: func(t *trial) error {
			return t.sendLent(t.mark(), &unix.SockaddrInet4{Addr: t.far4().As4()})
		}},
		{name: "packet socket, inherited", plain: "a socket for whole frames, kept the same way", want: other, lend: lendPacket(false), run: packetLent},
		{name: "packet socket past the queue, inherited", plain: "the same, around the sending queue", want: other, lend: lendPacket(true), run: packetLent},
		{name: "AF_XDP socket, inherited", plain: "a socket at the network driver, kept the same way", want: other, links: one, lend: lendXDP, run: func(t *trial) error {
			fd, memory, err := t.lent2()
			if err != nil {
				return err
			}
			return sendXDP(fd, memory, t.private(wire.MAC(t.id)))
		}, lacks: noProtocol("AF_XDP", unix.AF_XDP, unix.SOCK_RAW, 0)},
		{name: "UDP socket handed over", plain: "a socket that another program hands over under the lock", want: udp, lend: lendMailbox, hand: handOver, run: takeOver},
		{name: "socket taken from another program", plain: "reach into another program and use its socket", root: true, want: udp, lend: lendHostage, run: pidfdGet},
		{name: "program outside the board's cgroup", plain: "send from a program that is not counted among the board's", outside: true, want: udp, run: func(t *trial) error { return t.udp(sinkOf(t.far4()), nil) }},
		{name: "connection from outside the board's cgroup", plain: "the same with a connection", outside: true, want: tcp, run: func(t *trial) error { return t.stream(0, sinkOf(t.far4())) }},
		{name: "program that leaves the board's cgroup", plain: "a program takes itself out of that count, then sends", root: true, want: udp, run: leaveCgroup, lacks: lacksCgroup},
		{name: "program in a user namespace", plain: "an ordinary user makes himself administrator of a world of his own, then sends", want: udp, run: func(t *trial) error { return t.step("udp", unix.CLONE_NEWUSER) }, lacks: noUserNS},
	})
}

func keepUDP(t *trial) error {
	fd, err := t.connectedUDP()
	t.keep["fd"] = fd
	return err
}

func keepTCP(t *trial) error {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	t.keep["fd"] = fd
	return connect(fd, sockaddr(sinkOf(t.far4()), 0))
}

func useKept(t *trial) error {
	fd, ok := t.keep["fd"].(int)
	if !ok {
		return errNothingKept
	}
	_, err := unix.Write(fd, t.mark())
	return err
}

// errNothingKept: there was no socket before the lock.
var errNothingKept = errors.New("nothing was opened before the lock")

// asFile gives a descriptor away.
func asFile(fd int, err error) ([]*os.File, error) {
	if err != nil {
		return nil, err
	}
	if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, err
	}
	return []*os.File{os.NewFile(uintptr(fd), "lent")}, nil
}

func lendUDP(t *trial) ([]*os.File, error) { return asFile(t.connectedUDP()) }

func lendTCP(t *trial) ([]*os.File, error) {
	fd, err := t.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	if err := connect(fd, sockaddr(sinkOf(t.far4()), 0)); err != nil {
		return nil, err
	}
	return asFile(fd, nil)
}

func lendRaw(t *trial) ([]*os.File, error) {
	return asFile(t.socket(unix.AF_INET, unix.SOCK_RAW, wire.ProtoPrivate))
}

func lendPacket(past bool) func(*trial) ([]*os.File, error) {
	return func(t *trial) ([]*os.File, error) {
		fd, err := t.socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return nil, err
		}
		if past {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
				return nil, err
			}
		}
		return asFile(fd, nil)
	}
}

func lendXDP(t *trial) ([]*os.File, error) {
	fd, memory, err := t.openXDP(t.own(""))
	if err != nil {
		return nil, err
	}
	all, err := asFile(fd, nil)
	return append(all, memory), err
}

// lent returns the descriptor that the attacker was started with for this attack.
func (t *trial) lent() (int, error) {
	f, err := t.inherited(lentName(t.id, 0))
	if err != nil {
		return -1, err
	}
	return int(f.Fd()), nil
}

func (t *trial) lent2() (int, *os.File, error) {
	fd, err := t.lent()
	if err != nil {
		return -1, nil, err
	}
	memory, err := t.inherited(lentName(t.id, 1))
	return fd, memory, err
}

func writeLent(t *trial) error {
	fd, err := t.lent()
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, t.mark())
	return err
}

func (t *trial) sendLent(p []byte, to unix.Sockaddr) error {
	fd, err := t.lent()
	if err != nil {
		return err
	}
	return unix.Sendto(fd, p, 0, to)
}

func packetLent(t *trial) error {
	index, err := linkIndex(sharedLink)
	if err != nil {
		return err
	}
	return t.sendLent(t.private(wire.MAC(t.id)), &unix.SockaddrLinklayer{Ifindex: index, Halen: 6})
}

// lendMailbox is a way for sockets to be handed over later; the other end stays with the board.
func lendMailbox(t *trial) ([]*os.File, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fd, err := t.connectedUDP()
	if err != nil {
		return nil, err
	}
	t.keep["mailbox"], t.keep["fd"] = p[0], fd
	return asFile(p[1], nil)
}

func handOver(_ *board, t *trial) error {
	return unix.Sendmsg(t.keep["mailbox"].(int), []byte{1}, unix.UnixRights(t.keep["fd"].(int)), nil, 0)
}

func takeOver(t *trial) error {
	mailbox, err := t.lent()
	if err != nil {
		return err
	}
	if err := await(mailbox, unix.POLLIN); err != nil {
		return err
	}
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(mailbox, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 {
		return fmt.Errorf("no socket was handed over: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	t.deferred(func() { unix.Close(fds[0]) })
	_, err = unix.Write(fds[0], t.mark())
	return err
}

// lendHostage tells the number of a socket of the board's first process, by a file.
func lendHostage(t *trial) ([]*os.File, error) {
	fd, err := t.connectedUDP()
	if err != nil {
		return nil, err
	}
	note, err := t.memoryFile()
	if err != nil {
		return nil, err
	}
	_, err = note.WriteAt([]byte(strconv.Itoa(fd)), 0)
	return []*os.File{note}, err
}

func pidfdGet(t *trial) error {
	note, err := t.inherited(lentName(t.id, 0))
	if err != nil {
		return err
	}
	p := make([]byte, 16)
	n, _ := note.ReadAt(p, 0) // to its end
	process, err := unix.PidfdOpen(1, 0)
	if err != nil {
		return err
	}
	t.deferred(func() { unix.Close(process) })
	fd, err := unix.PidfdGetfd(process, number(string(p[:n])), 0)
	if err != nil {
		return fmt.Errorf("take the socket: %w", err)
	}
	t.deferred(func() { unix.Close(fd) })
	_, err = unix.Write(fd, t.mark())
	return err
}

// leaveCgroup is done by a child: the attacker himself stays.
func leaveCgroup(t *trial) error { return t.step("leave", 0) }

func lacksCgroup() string {
	if _, err := os.Stat(cgroupInside + "/cgroup.procs"); err != nil {
		return "no cgroup v2 tree is mounted"
	}
	return ""
}

// moveOut moves this process out of its cgroup into the one beside it.
func moveOut() error {
	own, err := ownCgroup()
	if err != nil {
		return err
	}
	beside := filepath.Join(filepath.Dir(own), "outside", "cgroup.procs")
	return os.WriteFile(beside, []byte(strconv.Itoa(os.Getpid())), 0)
}

func noUserNS() string {
	cmd := self("step", "nothing", "1")
	cmd.Stderr = nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	if err := cmd.Run(); err != nil {
		return "user namespaces cannot be made here"
	}
	return ""
}
