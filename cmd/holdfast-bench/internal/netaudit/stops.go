package netaudit

// mustStop names, by layer, rows that the layer stops although it stands alone. It is what each
// is there for, not all that it does: a build without a layer fails by that layer's name.
var mustStop = map[string][]string{
	"nft-inet": {"TCP, IPv4", "TCP, IPv6", "UDP, IPv4", "UDP, IPv6", "ping socket, IPv4", "raw IPv4, unknown protocol", "join a group, IGMP",
		"router solicitation as a link comes up", "ping reply, IPv4", "forwarding, IPv4", "forwarding, IPv6", "io_uring: send"},
	"nft-arp":    {"ARP by sending to a new address", "ARP reply", "gratuitous ARP as a link comes up"},
	"nft-bridge": {"bridge between two links", "tap bridged with a link", "bridge that sends itself"},
	"nft-netdev": {"UDP, IPv4", "packet socket, unknown ethertype", "packet socket past the queue", "packet socket, inherited", "ARP reply", "forwarding, IPv4"},
	"tc":         {"UDP, IPv4", "packet socket, unknown ethertype", "packet socket, inherited", "ARP reply", "clsact program that redirects", "forwarding, IPv4"},
	"links-down": {"AF_XDP socket, inherited", "UDP socket, inherited", "packet socket past the queue, inherited", "TCP, IPv4", "ping reply, IPv4"},
	"cgroup-bpf": {"TCP, IPv4", "UDP, IPv4", "UDP, IPv6", "TCP connection from before the lock"},
	"sysctl":     {"forwarding, IPv4", "forwarding, IPv6", "TCP, IPv6", "ARP reply"},
}
