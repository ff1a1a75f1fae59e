package netaudit

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// virtual names a link that the attack makes.
func (t *trial) virtual(kind string) string { return fmt.Sprintf("%s%d", kind, t.id) }

// addLink makes a link and takes it away with the trial.
func (t *trial) addLink(l netlink.Link) error {
	if err := netlink.LinkAdd(l); err != nil {
		return fmt.Errorf("add %s %s: %w", l.Type(), l.Attrs().Name, err)
	}
	t.deferred(func() { _ = netlink.LinkDel(l) }) // it may be gone
	return nil
}

// enslave puts a port into a bridge, or the like, and sets it up.
func (t *trial) enslave(port, master string) error {
	m, err := netlink.LinkByName(master)
	if err != nil {
		return err
	}
	err = change(port, func(l netlink.Link) error { return netlink.LinkSetMaster(l, m) })
	if err != nil {
		return err
	}
	return up(port)
}

// setBridge writes a property of a bridge.
func setBridge(name, property string, value uint32) error {
	return os.WriteFile("/sys/class/net/"+name+"/bridge/"+property, fmt.Append(nil, value), 0)
}

// over makes the attributes of a link that sits on another.
func (t *trial) over(kind, parent string) (netlink.LinkAttrs, error) {
	index, err := linkIndex(parent)
	return netlink.LinkAttrs{Name: t.virtual(kind), ParentIndex: index, HardwareAddr: net.HardwareAddr{0x02, 0x77, 0, 0, 2, byte(t.id)}}, err
}

// noLink tells whether the kernel has a kind of link: an unknown one is refused as such.
func noLink(what string, l netlink.Link) func() string {
	return func() string {
		l.Attrs().Name = "probe"
		err := netlink.LinkAdd(l)
		if err == nil {
			_ = netlink.LinkDel(l) // our own namespace goes with all in it
			return ""
		}
		if err == unix.EOPNOTSUPP || err == unix.EAFNOSUPPORT || err == unix.EPROTONOSUPPORT {
			return "the kernel has no " + what
		}
		return ""
	}
}

// virtualAttacks make a new link whose frames leave by one that is there. Each sits on a
// link of its own.
func virtualAttacks() []*attack {
	udp, other := []string{"udp"}, []string{"0x88b5"}
	two := []linkPlan{{}}
	p4 := func(id int) netip.Addr { return wire.Own4(id, 2) }
	all := []*attack{
		{name: "macvlan", plain: "a second address on the same network card", want: udp, run: macvlan},
		{name: "macvlan in a namespace of its own", plain: "the same, put where the board's rules are not asked", want: other, run: macvlanElsewhere},
		{name: "macvtap", plain: "a second network card for a virtual machine", want: other, run: macvtap, lacks: noMacvtap},
		{name: "ipvlan", plain: "a second address by another way", want: udp, run: func(t *trial) error {
			a, err := t.over("i", t.own(""))
			if err != nil {
				return err
			}
			a.HardwareAddr = nil
			return t.sendBy(&netlink.IPVlan{LinkAttrs: a, Mode: netlink.IPVLAN_MODE_L2})
		}, lacks: noLink("ipvlan", &netlink.IPVlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: 1}})},
		{name: "VLAN", plain: "a virtual network on the same card", want: []string{"vlan"}, run: func(t *trial) error {
			a, err := t.over("v", t.own(""))
			if err != nil {
				return err
			}
			return t.sendBy(&netlink.Vlan{LinkAttrs: a, VlanId: 7})
		}, lacks: noLink("VLAN links", &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: 1}, VlanId: 7})},
		{name: "VXLAN", plain: "whole frames wrapped into messages", want: udp, run: func(t *trial) error {
			index, err := linkIndex(t.own(""))
			if err != nil {
				return err
			}
			return t.sendBy(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("x")}, VxlanId: t.id, VtepDevIndex: index, Group: p4(t.id).AsSlice(), Port: 4789, Learning: true})
		}, lacks: noLink("VXLAN", &netlink.Vxlan{VxlanId: 1})},
		{name: "GENEVE", plain: "the same by a newer form", want: udp, run: func(t *trial) error {
			return t.sendBy(&netlink.Geneve{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("g")}, ID: uint32(t.id), Remote: p4(t.id).AsSlice()})
		}, lacks: noLink("GENEVE", &netlink.Geneve{ID: 1, Remote: net.IPv4(192, 0, 2, 1)})},
		{name: "GRE tunnel", plain: "a tunnel that the system keeps", want: []string{"gre"}, run: func(t *trial) error {
			return t.sendBy(&netlink.Gretun{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("t")}, Local: wire.Own4(t.id, 1).AsSlice(), Remote: p4(t.id).AsSlice()})
		}, lacks: noLink("GRE", &netlink.Gretun{Local: net.IPv4(192, 0, 2, 1), Remote: net.IPv4(192, 0, 2, 2)})},
		{name: "IP in IP tunnel", plain: "the same in the simplest form", want: []string{"ipip"}, run: func(t *trial) error {
			return t.sendBy(&netlink.Iptun{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("t")}, Local: wire.Own4(t.id, 1).AsSlice(), Remote: p4(t.id).AsSlice()})
		}, lacks: noLink("IP in IP", &netlink.Iptun{Local: net.IPv4(192, 0, 2, 1), Remote: net.IPv4(192, 0, 2, 2)})},
		{name: "IPv6 in IPv4 tunnel", plain: "IPv6 through an IPv4 network", want: []string{"sit"}, run: sit, lacks: noLink("IPv6 in IPv4", &netlink.Sittun{Local: net.IPv4(192, 0, 2, 1), Remote: net.IPv4(192, 0, 2, 2)})},
		{name: "IPv6 GRE tunnel", plain: "a tunnel over IPv6", want: []string{"gre"}, run: func(t *trial) error {
			return t.sendBy(&netlink.Gretun{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("t")}, Local: wire.Own6(t.id, 1).AsSlice(), Remote: wire.Own6(t.id, 2).AsSlice()})
		}, lacks: noLink("IPv6 GRE", &netlink.Gretun{Local: net.ParseIP("fd00::1"), Remote: net.ParseIP("fd00::2")})},
		{name: "bond", plain: "several cards as one", want: other, bare: true, run: func(t *trial) error {
			b := netlink.NewLinkBond(netlink.LinkAttrs{Name: t.virtual("o")})
			b.Mode = netlink.BOND_MODE_ACTIVE_BACKUP
			return t.viaMaster(b)
		}, lacks: noLink("bonding", netlink.NewLinkBond(netlink.LinkAttrs{}))},
		{name: "team", plain: "the same by another way", want: other, bare: true, run: func(t *trial) error {
			return t.viaMaster(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("o")}, LinkType: "team"})
		}, lacks: noLink("team links", &netlink.GenericLink{LinkType: "team"})},
		{name: "VRF", plain: "a routing world of its own", want: udp, run: vrf, lacks: noLink("VRF", &netlink.Vrf{Table: 9999})},
		{name: "bridge that sends itself", plain: "a message by a bridge whose port is the network card", want: other, bare: true, run: func(t *trial) error {
			return t.viaMaster(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("o")}})
		}},
		{name: "tap bridged with a link", plain: "a virtual machine's network card on the same bridge", want: other, bare: true, run: tapBridge, lacks: noTun},
		{name: "tun and forwarding", plain: "messages of a VPN program that the system forwards", want: udp, run: tunForward, lacks: noTun},
		{name: "container on a bridge", plain: "a world of its own, tied to the network card by a bridge", want: other, bare: true, run: containerBridge},
		{name: "link moved to a namespace of its own", plain: "the network card itself is put where the board's rules are not asked", want: other, bare: true, run: moveAway},
		{name: "link renamed, then used", plain: "the network card gets another name", want: udp, run: renameLink},
		{name: "link with another queue", plain: "the sending queue is replaced", want: other, run: replaceQueue},
	}
	for _, a := range all {
		if a.links == nil {
			a.links = two
		}
	}
	return asRoot(in(groupVirtual, all))
}

// sendBy makes the link, gives it addresses and sends a message through it to a neighbour there.
func (t *trial) sendBy(l netlink.Link) error {
	if err := t.addLink(l); err != nil {
		return err
	}
	name := l.Attrs().Name
	from, to := netip.AddrFrom4([4]byte{10, 90, byte(t.id), 1}), netip.AddrFrom4([4]byte{10, 90, byte(t.id), 2})
	if err := address(name, netip.PrefixFrom(from, 24)); err != nil {
		return err
	}
	if err := up(name); err != nil {
		return err
	}
	if index, err := linkIndex(name); err == nil {
		_ = neighbour(index, to, wire.FarMAC) // links without Ethernet addresses need none
	}
	return t.udp(sinkOf(to), nil)
}

// viaMaster sends a frame by a link that has the attack's own as a port.
func (t *trial) viaMaster(l netlink.Link) error {
	if err := t.addLink(l); err != nil {
		return err
	}
	name := l.Attrs().Name
	if l.Type() != "bridge" { // others take only ports that are down
		_ = down(t.own("")) // tried again by enslave
	}
	if err := t.enslave(t.own(""), name); err != nil {
		return err
	}
	if err := up(name); err != nil {
		return err
	}
	return t.packetUntilUp(name, t.private(wire.Broadcast))
}

// packetUntilUp sends again and again for a while: links that were just made need a moment.
func (t *trial) packetUntilUp(name string, frame []byte) (err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); pause() {
		err = t.packetOn(name, frame)
	}
	return err
}

func macvlan(t *trial) error {
	a, err := t.over("m", t.own(""))
	if err != nil {
		return err
	}
	return t.sendBy(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE})
}

func macvlanElsewhere(t *trial) error {
	a, err := t.over("m", t.own(""))
	if err != nil {
		return err
	}
	return t.elsewhere(func(ns *os.File) error {
		a.Namespace = netlink.NsFd(ns.Fd())
		a.Name = elsewhereLink
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE})
	})
}

// elsewhereLink is what a link is called that was put into another namespace.
const elsewhereLink = "gone0"

// sendElsewhere waits for the word, then sends on the link that was put here.
func sendElsewhere(t *trial) error {
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	if err := up(elsewhereLink); err != nil {
		return err
	}
	return t.packetUntilUp(elsewhereLink, t.private(wire.Broadcast))
}

func moveAway(t *trial) error {
	return t.elsewhere(func(ns *os.File) error {
		return change(t.own(""), func(l netlink.Link) error {
			if err := netlink.LinkSetDown(l); err != nil {
				return err
			}
			if err := netlink.LinkSetName(l, elsewhereLink); err != nil {
				return err
			}
			return netlink.LinkSetNsFd(l, int(ns.Fd()))
		})
	})
}

func containerBridge(t *trial) error {
	name, port := t.virtual("o"), t.virtual("p")
	if err := t.addLink(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return err
	}
	return t.elsewhere(func(ns *os.File) error {
		v := netlink.NewVeth(netlink.LinkAttrs{Name: port})
		v.PeerName, v.PeerNamespace = elsewhereLink, netlink.NsFd(ns.Fd())
		if err := t.addLink(v); err != nil {
			return err
		}
		for _, p := range []string{port, t.own("")} {
			if err := t.enslave(p, name); err != nil {
				return err
			}
		}
		return up(name)
	})
}

func noMacvtap() string {
	if _, err := os.Stat("/sys/class/macvtap"); err == nil {
		return ""
	}
	return noLink("macvtap", &netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: 1}}})()
}

// macvtap writes a frame into the character device of one.
func macvtap(t *trial) error {
	a, err := t.over("m", t.own(""))
	if err != nil {
		return err
	}
	if err := t.addLink(&netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}}); err != nil {
		return err
	}
	if err := up(a.Name); err != nil {
		return err
	}
	dev, err := tapDevice(a.Name)
	if err != nil {
		return err
	}
	node := "/run/" + a.Name
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(dev)); err != nil {
		return err
	}
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	t.deferred(func() { f.Close() })
	_, err = f.Write(append(make([]byte, 10), t.private(wire.Broadcast)...))
	return err
}

// tapDevice reads the device number of a macvtap link.
func tapDevice(name string) (uint64, error) {
	index, err := linkIndex(name)
	if err != nil {
		return 0, err
	}
	p, err := os.ReadFile(fmt.Sprintf("/sys/class/net/%s/tap%d/dev", name, index))
	if err != nil {
		return 0, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(p), "%d:%d", &major, &minor); err != nil {
		return 0, err
	}
	return unix.Mkdev(major, minor), nil
}

func noTun() string {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return "the kernel has no tun and tap"
	}
	return ""
}

// openTun makes a tun or tap link and returns the program's end.
func (t *trial) openTun(name string, flags uint16) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	t.deferred(func() { unix.Close(fd) })
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	ifr.SetUint16(flags | unix.IFF_NO_PI)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(ifr))); errno != 0 {
		return -1, fmt.Errorf("tun: %w", errno)
	}
	return fd, nil
}

func tapBridge(t *trial) error {
	tap, name := t.virtual("p"), t.virtual("o")
	fd, err := t.openTun(tap, unix.IFF_TAP)
	if err != nil {
		return err
	}
	if err := t.addLink(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return err
	}
	for _, p := range []string{tap, t.own("")} {
		if err := t.enslave(p, name); err != nil {
			return err
		}
	}
	if err := up(name); err != nil {
		return err
	}
	_, err = unix.Write(fd, t.private(wire.Broadcast))
	return err
}

func tunForward(t *trial) error {
	name := t.virtual("u")
	fd, err := t.openTun(name, unix.IFF_TUN)
	if err != nil {
		return err
	}
	if err := up(name); err != nil {
		return err
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 91, byte(t.id), 2}), 4000)
	_, err = unix.Write(fd, wire.UDP(from, sinkOf(wire.Own4(t.id, 2)), t.mark()))
	return err
}

func vrf(t *trial) error {
	if err := t.addLink(&netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("o")}, Table: uint32(20000 + t.id)}); err != nil {
		return err
	}
	if err := up(t.virtual("o")); err != nil {
		return err
	}
	if err := t.enslave(t.own(""), t.virtual("o")); err != nil {
		return err
	}
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.BindToDevice(fd, t.virtual("o")); err != nil {
		return err
	}
	return unix.Sendto(fd, t.mark(), 0, sockaddr(sinkOf(wire.Own4(t.id, 2)), 0))
}

func sit(t *trial) error {
	l := &netlink.Sittun{LinkAttrs: netlink.LinkAttrs{Name: t.virtual("t")}, Local: wire.Own4(t.id, 1).AsSlice(), Remote: wire.Own4(t.id, 2).AsSlice()}
	if err := t.addLink(l); err != nil {
		return err
	}
	inner := netip.AddrFrom16([16]byte{0xfd, 0x7b, 7: byte(t.id), 15: 1})
	if err := address(l.Name, netip.PrefixFrom(inner, 64)); err != nil {
		return err
	}
	if err := up(l.Name); err != nil {
		return err
	}
	return t.udp(sinkOf(inner.Next()), nil)
}

func renameLink(t *trial) error {
	err := change(t.own(""), func(l netlink.Link) error {
		if err := netlink.LinkSetDown(l); err != nil {
			return err
		}
		return netlink.LinkSetName(l, t.virtual("r"))
	})
	if err != nil {
		return err
	}
	if err := prepareOwn(t.id, t.virtual("r")); err != nil {
		return err
	}
	return t.udp(sinkOf(wire.Own4(t.id, 2)), nil)
}

// replaceQueue puts another queue at the root of the link, and takes away what sits at ingress and egress.
func replaceQueue(t *trial) error {
	index, err := linkIndex(t.own(""))
	if err != nil {
		return err
	}
	_ = netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)}}) // there may be none
	fifo := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(7, 0), Parent: netlink.HANDLE_ROOT}, QdiscType: "pfifo"}
	if err := netlink.QdiscReplace(fifo); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return t.packetUntilUp(t.own(""), t.private(wire.MAC(t.id)))
}
