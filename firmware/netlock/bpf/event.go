// Package bpf closes a board's way out by BPF programs, and tells who tried.
//
// There are two of them. TC drops every frame that a link would send or has received, by tcx
// or, before Linux 6.6, by clsact and cls_bpf. Cgroup refuses sockets, connections and datagrams
// of the processes of a cgroup (on a board the root, so all of them) that lead anywhere but to
// loopback, and reports each refusal with process, user and destination through a ring buffer.
// The programs are written as instructions for cilium/ebpf: no compiler is needed, on no machine.
//
// Programs are attached without a link object (BPF_PROG_ATTACH), so the kernel keeps them when
// the process that attached them is killed. The next one puts its own in their place, without a
// moment in between, and goes on with their counters and their ring buffer.
//
// What it does not do. Cgroup sees IPv4 and IPv6 alone: AF_PACKET, AF_XDP, Bluetooth and CAN
// sockets, and frames that the kernel sends by itself, never reach these hooks. TC does not see
// AF_XDP, nor packet sockets with PACKET_QDISC_BYPASS. Somebody with CAP_NET_ADMIN can detach
// what is attached; Verify notices. Other layers of the lock are for those.
//
// Linux documents the hooks in https://docs.kernel.org/bpf/ and in bpf(2), bpf-helpers(7).
package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// Hook is the place in the kernel where something was refused.
type Hook uint8

// Hooks. The numbers are indices of the kernel's counters too.
const (
	Connect4  Hook = iota + 1 // connect to IPv4
	Connect6                  // connect to IPv6, or to IPv4 by a mapped address
	Sendmsg4                  // a datagram with a destination of its own, IPv4
	Sendmsg6                  // the same, IPv6
	Bind4                     // bind to an address that is neither loopback nor unspecified
	Bind6                     // the same, IPv6
	Socket                    // a socket that is neither TCP nor UDP
	Egress                    // a packet of a socket that would leave by a link
	Ingress                   // a packet for a socket that came in by a link
	TCEgress                  // a frame that a link would send
	TCIngress                 // a frame that a link received
	hooks                     // their number, and one
)

var hookNames = [hooks]string{"", "connect4", "connect6", "sendmsg4", "sendmsg6", "bind4", "bind6", "socket", "egress", "ingress", "tc-egress", "tc-ingress"}

// String returns the name of the hook, as Counters has it.
func (h Hook) String() string {
	if h == 0 || h >= hooks {
		return "hook " + strconv.Itoa(int(h))
	}
	return hookNames[h]
}

// Address families of an Event.
const (
	familyNone = 0 // not IP
	familyIPv4 = 2
	familyIPv6 = 10
)

// Types of a socket in an Event, as in socket(2).
const (
	typeStream   = 1
	typeDatagram = 2
	typeRaw      = 3
)

// Event is one refusal, or several of which only the number is known.
type Event struct {
	Nsec     int64      // since the kernel started (CLOCK_BOOTTIME)
	PID, TID int        // process and thread in the reader's PID namespace; 0: not known
	UID      int64      // -1: not known
	Comm     string     // the name that the thread gave itself; "": not known
	Hook     Hook       // where
	Family   uint16     // AF_INET, AF_INET6; 0: neither
	Type     uint32     // of the socket, where the hook tells
	Proto    uint32     // IP protocol; EtherType where Family is 0
	Addr     netip.Addr // destination; of a bind the address asked for
	MAC      [6]byte    // destination, where Family is 0
	Port     uint16     // of Addr; 0: none, or not known
	Ifindex  int        // of the link, where the hook tells
	Count    int64      // 1; of Lost any number
	Lost     bool       // Count refusals did not fit the buffer: nothing but Hook is known of them
}

// ErrRecord: bytes in the ring buffer that are no record of ours.
var ErrRecord = errors.New("bpf: not a record of a refusal")

// A record in the ring buffer, in the machine's byte order but for address and port, which are
// in network order. recordVersion is part of the map's name: a new layout never meets old records.
const (
	offNsec    = 0  // 8
	offPID     = 8  // 4
	offTID     = 12 // 4
	offUID     = 16 // 4, all ones: not known
	offPort    = 20 // 2
	offHook    = 22 // 1
	offFamily  = 23 // 1
	offProto   = 24 // 4
	offIfindex = 28 // 4
	offAddr    = 32 // 16; IPv4 and MAC addresses begin it
	offComm    = 48 // 16, ends with a zero
	offType    = 64 // 4
	recordSize = 72 // a multiple of 8

	recordVersion = "1"
)

// Parse reads a record of the ring buffer. Bytes that are none are ErrRecord.
func Parse(p []byte) (Event, error) {
	if len(p) != recordSize {
		return Event{}, fmt.Errorf("%w: %d bytes", ErrRecord, len(p))
	}
	u32 := func(off int) uint32 { return binary.NativeEndian.Uint32(p[off:]) }
	e := Event{
		Nsec:    int64(binary.NativeEndian.Uint64(p[offNsec:])),
		PID:     int(int32(u32(offPID))),
		TID:     int(int32(u32(offTID))),
		UID:     int64(u32(offUID)),
		Port:    binary.BigEndian.Uint16(p[offPort:]),
		Hook:    Hook(p[offHook]),
		Family:  uint16(p[offFamily]),
		Proto:   u32(offProto),
		Ifindex: int(int32(u32(offIfindex))),
		Type:    u32(offType),
		Count:   1,
	}
	if e.UID == 1<<32-1 {
		e.UID = -1
	}
	comm, _, _ := bytes.Cut(p[offComm:offComm+16], []byte{0})
	e.Comm = string(comm)
	switch {
	case e.Hook == 0 || e.Hook >= hooks:
		return Event{}, fmt.Errorf("%w: hook %d", ErrRecord, p[offHook])
	case e.Nsec < 0 || e.PID < 0 || e.TID < 0 || e.Ifindex < 0:
		return Event{}, fmt.Errorf("%w: a number below zero", ErrRecord)
	}
	return e, e.address(p[offAddr : offAddr+16])
}

// address reads the destination.
func (e *Event) address(p []byte) error {
	switch e.Family {
	case familyNone:
		copy(e.MAC[:], p)
	case familyIPv4:
		e.Addr = netip.AddrFrom4([4]byte(p))
	case familyIPv6:
		e.Addr = netip.AddrFrom16([16]byte(p))
	default:
		family := e.Family
		*e = Event{}
		return fmt.Errorf("%w: family %d", ErrRecord, family)
	}
	return nil
}

// What names the kind of the refusal as evidence.Attempt does.
func (e Event) What() string {
	switch e.Hook {
	case Connect4, Connect6:
		return "connect"
	case Sendmsg4, Sendmsg6:
		return "send"
	case Bind4, Bind6, Socket:
		return "socket"
	}
	return "frame"
}

// Detail is a clause about what the other fields do not say, or "".
func (e Event) Detail() string {
	switch {
	case e.Lost:
		return "more than the buffer holds"
	case e.Hook == Bind4 || e.Hook == Bind6:
		return "bind to an address that is not of loopback"
	case e.Hook == Socket && e.Type == typeRaw:
		return "raw socket"
	case e.Hook == Socket:
		return "socket of a protocol that is neither TCP nor UDP"
	}
	return ""
}

// Protocol names the protocol: tcp, udp, and so on; "ip-" and the number of another one, or 0x
// and the EtherType of what is not IP. It is "" where it is not known.
func (e Event) Protocol() string {
	switch {
	case e.Lost:
		return ""
	case e.Family == familyNone:
		return etherType(e.Proto)
	}
	switch e.Proto {
	case 1:
		return "icmp"
	case 2:
		return "igmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 33:
		return "dccp"
	case 58:
		return "icmp6"
	case 132:
		return "sctp"
	case 136:
		return "udplite"
	case 262:
		return "mptcp"
	}
	return "ip-" + strconv.FormatUint(uint64(e.Proto), 10)
}

func etherType(t uint32) string {
	switch t {
	case 0:
		return ""
	case 0x0806:
		return "arp"
	}
	return fmt.Sprintf("0x%04x", t)
}

// AddrPort is the destination, port 0 where there is none; the zero value where there is no
// address, or (Socket) no destination yet.
func (e Event) AddrPort() netip.AddrPort {
	if !e.Addr.IsValid() || e.Hook == Socket {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(e.Addr, e.Port)
}

// Destination is address:port, [address]:port, an address or a MAC; "" where it is not known.
func (e Event) Destination() string {
	switch to := e.AddrPort(); {
	case to.IsValid() && to.Port() != 0:
		return to.String()
	case to.IsValid():
		return to.Addr().String()
	case e.MAC == [6]byte{}:
		return ""
	}
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", e.MAC[0], e.MAC[1], e.MAC[2], e.MAC[3], e.MAC[4], e.MAC[5])
}
