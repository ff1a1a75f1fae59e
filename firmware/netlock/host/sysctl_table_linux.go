package host

// setting is a kernel variable and its value, or one for each link.
type setting struct {
	key   string // below /proc/sys, or below a link's folder
	value string
	// perLink is the folder with a folder for each link, and one for links to come. Where it has
	// one for "all", that is set too.
	perLink string
	least   bool // a higher number will do
	// maintenance is the value while a ticket has the link open; empty: no other.
	maintenance string
}

const (
	conf4      = "net/ipv4/conf"
	conf6      = "net/ipv6/conf"
	neighbour4 = "net/ipv4/neigh"
	neighbour6 = "net/ipv6/neigh"
)

// networkSettings belong to a network namespace. Their meaning is in
// https://docs.kernel.org/networking/ip-sysctl.html.
var networkSettings = []setting{
	// Forwarding comes first: switching it off sets accept_redirects back.
	{perLink: conf4, key: "forwarding", value: "0"},
	{perLink: conf6, key: "forwarding", value: "0"},
	{perLink: conf6, key: "force_forwarding", value: "0"},
	{perLink: conf4, key: "bc_forwarding", value: "0"},
	{perLink: conf4, key: "proxy_arp", value: "0"},
	{perLink: conf4, key: "proxy_arp_pvlan", value: "0"},
	{perLink: conf4, key: "bootp_relay", value: "0"},

	// IPv6 is off: router solicitations, neighbour discovery, listener reports and duplicate
	// address detection are sent by the kernel as soon as a link is up.
	{perLink: conf6, key: "disable_ipv6", value: "1"},
	{perLink: conf6, key: "accept_ra", value: "0"},
	{perLink: conf6, key: "autoconf", value: "0"},
	{perLink: conf6, key: "router_solicitations", value: "0"},
	{perLink: conf6, key: "dad_transmits", value: "0"},
	{perLink: conf6, key: "accept_redirects", value: "0"},
	{perLink: conf6, key: "ndisc_notify", value: "0"},
	{perLink: conf6, key: "proxy_ndp", value: "0"},
	{key: "net/ipv6/icmp/echo_ignore_all", value: "1"},
	{key: "net/ipv6/icmp/echo_ignore_multicast", value: "1"},
	{key: "net/ipv6/icmp/echo_ignore_anycast", value: "1"},

	// IPv4: nothing is answered, and nobody can tell this board where to send.
	{perLink: conf4, key: "arp_ignore", value: "8", maintenance: "0"}, // answer no ARP request
	{perLink: conf4, key: "arp_announce", value: "2"},                 // the least about other addresses
	{perLink: conf4, key: "arp_notify", value: "0"},
	{perLink: conf4, key: "arp_accept", value: "0"},
	{perLink: conf4, key: "drop_gratuitous_arp", value: "1"},
	{perLink: conf4, key: "rp_filter", value: "1"},
	{perLink: conf4, key: "accept_redirects", value: "0"},
	{perLink: conf4, key: "secure_redirects", value: "0"},
	{perLink: conf4, key: "send_redirects", value: "0"},
	{perLink: conf4, key: "accept_source_route", value: "0"},
	{perLink: conf4, key: "accept_local", value: "0"},
	{perLink: conf4, key: "route_localnet", value: "0"}, // 127.0.0.0/8 stays on loopback
	{key: "net/ipv4/icmp_echo_ignore_all", value: "1"},
	{key: "net/ipv4/icmp_echo_ignore_broadcasts", value: "1"},
	{key: "net/ipv4/icmp_echo_enable_probe", value: "0"},
	{key: "net/ipv4/igmp_link_local_mcast_reports", value: "0"},

	// With no tries left, the kernel asks no neighbour for its address: what would have to be
	// sent is dropped before the first ARP request or neighbour solicitation.
	{perLink: neighbour4, key: "mcast_solicit", value: "0", maintenance: "3"},
	{perLink: neighbour4, key: "ucast_solicit", value: "0", maintenance: "3"},
	{perLink: neighbour4, key: "mcast_resolicit", value: "0"},
	{perLink: neighbour6, key: "mcast_solicit", value: "0"},
	{perLink: neighbour6, key: "ucast_solicit", value: "0"},
	{perLink: neighbour6, key: "mcast_resolicit", value: "0"},
}

// machineSettings belong to the whole machine
// (https://docs.kernel.org/admin-guide/sysctl/kernel.html and net.html).
var machineSettings = []setting{
	// A network namespace made from now on begins with this one's settings.
	{key: "net/core/devconf_inherit_init_net", value: "1"},
	{key: "net/core/bpf_jit_harden", value: "2"},

	// No other kernel is started over this one. Nobody can set it back before a restart.
	{key: "kernel/kexec_load_disabled", value: "1"},
	// BPF needs CAP_BPF. Nobody can set it back before a restart.
	{key: "kernel/unprivileged_bpf_disabled", value: "1"},
	// Where the kernel has this (Debian, Ubuntu): no user namespaces for ordinary users, in
	// which everybody is root. user.max_user_namespaces would bind the system's services too.
	{key: "kernel/unprivileged_userns_clone", value: "0"},
	{key: "kernel/dmesg_restrict", value: "1"},
	{key: "kernel/kptr_restrict", value: "1", least: true},
	{key: "kernel/perf_event_paranoid", value: "2", least: true},
	// Sockets are taken out of another process by ptrace's rights (pidfd_getfd): CAP_SYS_PTRACE.
	{key: "kernel/yama/ptrace_scope", value: "2", least: true},
	// A serial line is not made a network link (SLIP, PPP, CAN) by whoever may open it.
	{key: "dev/tty/ldisc_autoload", value: "0"},
}

// coreSettings keep the memory of a program that crashes off every medium.
var coreSettings = []setting{
	// The kernel hands a dump to a program, whatever limit the crashed one has. This one drops it.
	{key: "kernel/core_pattern", value: "|/bin/false"},
	{key: "fs/suid_dumpable", value: "0"},
}

// Variable is a kernel variable of a layer, for those who set the same before the guard runs.
type Variable struct {
	Name  string // as sysctl(8) writes it; for a variable of each link that of links to come
	Value string
	Least bool // a higher number will do
}

// Variables returns what Sysctl and CoreDumps set, without the variables of links that are
// there.
func Variables() (list []Variable) {
	for _, table := range [][]setting{networkSettings, machineSettings, coreSettings} {
		for _, s := range table {
			for _, v := range s.on([]string{"default"}, nil) {
				list = append(list, Variable{v.name, v.value, v.least})
			}
		}
	}
	return list
}
