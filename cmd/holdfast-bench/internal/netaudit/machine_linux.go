package netaudit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// machine lists what the audit must leave as it is: the links of the network namespace that it was
// started in, their addresses, routes, rules, queues and filters, the firewall's tables, and the
// cgroups that this process made. It only reads.
func machine() (lines []string, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("links of the machine: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		lines = append(lines, fmt.Sprintf("link %d %s %s %s flags %x mtu %d master %d xdp %v", a.Index, a.Name, l.Type(), a.HardwareAddr, a.RawFlags, a.MTU, a.MasterIndex, a.Xdp != nil && a.Xdp.Attached))
	}
	for _, f := range []func() ([]string, error){machineRoutes, machineQueues, machineFirewall, machineSettings} {
		more, err := f()
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	sort.Strings(lines)
	return lines, nil
}

func machineRoutes() (lines []string, err error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses of the machine: %w", err)
	}
	for _, a := range addresses {
		lines = append(lines, fmt.Sprintf("address %s link %d", a.IPNet, a.LinkIndex))
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("routes of the machine: %w", err)
	}
	for _, r := range routes {
		lines = append(lines, fmt.Sprintf("route %s via %s link %d table %d type %d priority %d", r.Dst, r.Gw, r.LinkIndex, r.Table, r.Type, r.Priority))
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("rules of the machine: %w", err)
	}
	for _, r := range rules {
		lines = append(lines, fmt.Sprintf("rule %s family %d", r, r.Family))
	}
	return lines, nil
}

func machineQueues() (lines []string, err error) {
	queues, err := netlink.QdiscList(nil)
	if err != nil {
		return nil, fmt.Errorf("queues of the machine: %w", err)
	}
	for _, q := range queues {
		lines = append(lines, fmt.Sprintf("queue %s link %d parent %x handle %x", q.Type(), q.Attrs().LinkIndex, q.Attrs().Parent, q.Attrs().Handle))
	}
	return lines, nil
}

func machineFirewall() (lines []string, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("firewall of the machine: %w", err)
	}
	tables, err := c.ListTables()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // the kernel has no nftables
	}
	if err != nil {
		return nil, fmt.Errorf("firewall of the machine: %w", err)
	}
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("table %d %s flags %x", t.Family, t.Name, t.Flags))
		chains, err := c.ListChainsOfTableFamily(t.Family)
		if err != nil {
			return nil, fmt.Errorf("firewall of the machine: %w", err)
		}
		for _, chain := range chains {
			if chain.Table.Name != t.Name {
				continue
			}
			rules, err := c.GetRules(t, chain)
			if err != nil {
				return nil, fmt.Errorf("firewall of the machine: %w", err)
			}
			lines = append(lines, fmt.Sprintf("chain %d %s %s rules %d", t.Family, t.Name, chain.Name, len(rules)))
		}
	}
	return lines, nil
}

// machineSettings are files: settings of the network, and the audit's own cgroups.
func machineSettings() (lines []string, err error) {
	for _, pattern := range []string{"/proc/sys/net/ipv[46]/conf/*/forwarding", "/proc/sys/net/ipv6/conf/*/disable_ipv6", "/proc/sys/net/ipv4/conf/*/arp_ignore", "/proc/swaps", "/proc/sys/kernel/core_pattern"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			p, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			lines = append(lines, "file "+f+" "+string(bytes.Join(bytes.Fields(p), []byte(" "))))
		}
	}
	root, err := cgroupRoot()
	if err != nil {
		return lines, nil // there are none
	}
	groups, err := filepath.Glob(filepath.Join(root, ownGroups()+"*"))
	for _, g := range groups {
		lines = append(lines, "cgroup "+g)
	}
	return lines, err
}

// difference says what came and what went.
func difference(before, after []string) (lines []string) {
	for _, l := range before {
		if !slices.Contains(after, l) {
			lines = append(lines, "gone: "+strings.TrimSpace(l))
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			lines = append(lines, "new: "+strings.TrimSpace(l))
		}
	}
	return lines
}
