// Package nft drops every packet of a network namespace but those of its loopback link, by
// tables of its own in nf_tables (https://wiki.nftables.org, linux/netfilter/nf_tables.h).
//
// There are four layers, one for each family that packets pass: inet (IPv4 and IPv6), arp,
// bridge, and netdev (ingress and egress of each link, which sees packet sockets too). Each
// layer has two tables. The floor is a plain table. Above it lies an owned table, where the
// kernel has those (Linux 5.12): only the socket that made it can change it, so root cannot
// flush it while the guard lives. With the flag persist (6.9) it stays when the guard dies, and
// the next guard takes it over. On a kernel that can name links by prefix (6.17) the owned
// netdev table holds for every link there is and every link to come, within the kernel, before
// the link can send; else and in the floor each link has chains of its own: SetLinks.
//
// What passes is told by the index of the loopback link, 1 in every namespace, not by its
// name: a link can be renamed to lo. All else is dropped, without an answer to the far side;
// a local program gets EPERM. IPv6 with extension headers, fragments, multicast, broadcast and
// tagged frames are nothing special: no rule looks into a packet. The chains run before
// defragmentation and connection tracking. A drop is final in nf_tables: a chain of somebody
// else that accepts ends that chain only, wherever it lies, so chains of others are no matter
// of ours. A packet that another chain sends elsewhere (dup, fwd, a queue, an address
// rewritten) passes output, postrouting or egress of where it goes; postrouting therefore runs
// last, all others first.
//
// An nft(8) older than the kernel cannot show a chain of every link, and may hang over
// "list ruleset"; "list table inet holdfast_lock" and so on work.
//
// The package does not stop AF_XDP sockets, links moved to another namespace, and packets that
// a tc rule of root redirects from the loopback link: tc, capabilities. It sees no process
// names. All of it acts in the network namespace of the process.
package nft
