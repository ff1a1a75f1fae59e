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
