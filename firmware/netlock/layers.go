// Package netlock closes every network way out of a board, keeps it closed, and tells who tried.
//
// It applies layers (Names) that stand on their own, so that no single mistake opens the
// board: nftables tables, BPF at each link and at the cgroup, links held down, powers that
// nobody has, and what belongs to the host (sysctls, radios, USB, swap, core dumps). It finds
// out what the kernel has, applies all of that in an order that leaves no gap, verifies it, and
// then looks at every layer each second and after each netlink event. What somebody changed
// is set right again and reported (a strike). What each layer stops, and what it does not, is in
// docs/threat-model.md.
//
// One process has one network namespace: a Lock acts in that of its own process. On a board
// that is the machine's. With Config.Namespace it refuses to act where it sees hardware, and
// touches nothing that belongs to the whole host: for tests and for the audit.
//
// A Lock that is closed, or killed, leaves the lock standing. Linux only.
package netlock

// Names of the layers, in the order in which they are applied. Reports, the audit's table and
// build tags (leak_<name>, with _ for -) use them.
const (
	NftInet      = "nft-inet"     // nftables, IPv4 and IPv6: needed
	NftARP       = "nft-arp"      // nftables, ARP: needed
	NftBridge    = "nft-bridge"   // nftables, frames between bridged ports: needed
	NftNetdev    = "nft-netdev"   // nftables, ingress and egress of each link
	TC           = "tc"           // BPF at ingress and egress of each link: tcx, or clsact before Linux 6.6
	LinksDown    = "links-down"   // every link but lo down, and kept down
	CgroupBPF    = "cgroup-bpf"   // connect, sendmsg, socket of every process; names who tried
	Capabilities = "capabilities" // nobody has the powers that go past all others: needed
	Sysctl       = "sysctl"       // no IPv6, no forwarding, no ARP answers
	Rfkill       = "rfkill"       // radios off
	USB          = "usb"          // only devices that the configuration names
	Swap         = "swap"         // nothing of memory on a medium
	CoreDumps    = "core-dumps"   // the same for programs that crash
)

// Names lists all layers in the order in which they are applied.
func Names() []string {
	return []string{NftInet, NftARP, NftBridge, NftNetdev, TC, LinksDown, CgroupBPF, Capabilities, Sysctl, Rfkill, USB, Swap, CoreDumps}
}

// leaks are the layers that this build leaves out on purpose, by build tags leak_<layer>: such a
// build must fail the audit. Empty in every build that anybody flies.
var leaks = map[string]bool{}

// Leaks returns the layers that this build leaves out on purpose, in the order of Names.
func Leaks() (names []string) {
	for _, n := range Names() {
		if leaks[n] {
			names = append(names, n)
		}
	}
	return names
}
