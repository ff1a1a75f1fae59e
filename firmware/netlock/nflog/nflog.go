// Package nflog hears of the packets that the rules of package nft dropped, by the kernel's
// NFLOG (linux/netfilter/nfnetlink_log.h): one report for each packet, at once.
//
// A report has the layer and hook that dropped the packet, the link, the addresses, and the
// user whose socket it came from, where the kernel knows: not the process. The rules limit
// how many packets a second are reported, so there are packets without a report; the counters
// of package nft have them all.
//
// The package reads headers only, as far as a report holds them: Ethernet with tags, ARP, IPv4,
// IPv6 with extension headers, ports of TCP, UDP, UDP-Lite, SCTP and DCCP. It acts in the
// network namespace of the process.
package nflog
