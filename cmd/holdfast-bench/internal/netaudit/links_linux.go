package netaudit

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// What is done to links here is done in this process's own network namespace.

func linkIndex(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return i.Index, nil
}

// pair makes a veth pair; its other end, named far, is born in the namespace of peer.
func pair(name, far string, mac, farMAC net.HardwareAddr, peer *os.File) error {
	v := netlink.NewVeth(netlink.LinkAttrs{Name: name, HardwareAddr: mac, TxQLen: 1000})
	v.PeerName, v.PeerNamespace, v.PeerHardwareAddr = far, netlink.NsFd(peer.Fd()), farMAC
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

func up(name string) error { return change(name, netlink.LinkSetUp) }

func down(name string) error { return change(name, netlink.LinkSetDown) }

func remove(name string) error { return change(name, netlink.LinkDel) }

func change(name string, f func(netlink.Link) error) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := f(l); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// address gives a link one; the kernel does not look for others who have it.
func address(name string, p netip.Prefix) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	a := &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}
	if p.Addr().Is4() {
		a.Flags = 0
		a.Broadcast = net.IP(lastOf(p).AsSlice())
	}
	if err := netlink.AddrReplace(l, a); err != nil {
		return fmt.Errorf("address %s of %s: %w", p, name, err)
	}
	return nil
}

func lastOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := range a {
		keep := max(0, min(8, p.Bits()-8*i))
		a[i] |= byte(0xff >> keep)
	}
	return netip.AddrFrom4(a)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// neighbour tells the kernel an Ethernet address, so that it need not ask.
func neighbour(index int, a netip.Addr, mac net.HardwareAddr) error {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	return netlink.NeighSet(&netlink.Neigh{LinkIndex: index, Family: family, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac})
}

// route sends what is for to out by a link.
func route(to netip.Prefix, name string) error {
	index, err := linkIndex(name)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(to), LinkIndex: index, Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("route %s by %s: %w", to, name, err)
	}
	return nil
}

// local makes the kernel take what is for addresses of p.
func local(p netip.Prefix) error {
	index, err := linkIndex("lo")
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: ipNet(p), LinkIndex: index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST})
}

// sysctl writes one of net; a dot in a link's name is not expected.
func sysctl(key, value string) error {
	err := os.WriteFile("/proc/sys/net/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sysctl %s: %w", key, err)
	}
	return nil
}

// sysctls writes "key=value" of each.
func sysctls(all ...string) error {
	for _, s := range all {
		key, value, _ := strings.Cut(s, "=")
		if err := sysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

// prepareShared gives the links that attacks share their addresses and neighbours. It is
// repeated when a link was down: then the kernel forgets most of it.
func prepareShared(ids []int) error {
	if err := prepareLink(sharedLink, netip.PrefixFrom(wire.Board4, wire.Net4.Bits()), netip.PrefixFrom(wire.Board6, wire.Net6.Bits())); err != nil {
		return err
	}
	if err := prepareLink(secondLink, secondBoard4, secondBoard6); err != nil {
		return err
	}
	shared, err := linkIndex(sharedLink)
	if err != nil {
		return err
	}
	second, err := linkIndex(secondLink)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, a := range []netip.Addr{wire.Far4(id), wire.Far6(id)} {
			if err := neighbour(shared, a, wire.FarMAC); err != nil {
				return err
			}
		}
		for _, a := range []netip.Addr{wire.Beyond4(id), wire.Beyond6(id)} {
			if err := neighbour(second, a, wire.FarMAC); err != nil {
				return err
			}
		}
	}
	return nil
}

// The board's addresses on the second link.
var (
	secondBoard4 = netip.MustParsePrefix("10.79.0.1/16")
	secondBoard6 = netip.MustParsePrefix("fd79::1/64")
)

func prepareLink(name string, four, six netip.Prefix) error {
	if err := up(name); err != nil {
		return err
	}
	return errors.Join(address(name, four), address(name, six))
}

// prepareOwn does the same for the link of one attack.
func prepareOwn(id int, name string) error {
	if err := prepareLink(name, netip.PrefixFrom(wire.Own4(id, 1), 24), netip.PrefixFrom(wire.Own6(id, 1), 112)); err != nil {
		return err
	}
	index, err := linkIndex(name)
	if err != nil {
		return err
	}
	return errors.Join(neighbour(index, wire.Own4(id, 2), wire.FarMAC), neighbour(index, wire.Own6(id, 2), wire.FarMAC))
}
