package nflog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Messages, attributes and commands of linux/netfilter/nfnetlink_log.h.
const (
	msgPacket = unix.NFNL_SUBSYS_ULOG << 8
	msgConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1

	cfgCommand   = 1
	cfgMode      = 2
	cfgTimeout   = 4
	cfgThreshold = 5
	cfgFlags     = 6
	commandBind  = 1
	copyPacket   = 2
	flagSequence = 1

	attrHeader   = 1
	attrIn       = 4
	attrOut      = 5
	attrPhysIn   = 6
	attrPhysOut  = 7
	attrPayload  = 9
	attrPrefix   = 10
	attrUID      = 11
	attrSequence = 12
	attrLink     = 16 // the link-layer header
)

const (
	copyBytes   = 256     // of a packet at most; the rules ask for less
	socketBytes = 1 << 20 // reports that may wait, about a thousand
)

// marker begins the prefix of a report, which layer and hook follow, as package nft has them.
const marker = "holdfast"

// ErrBad: bytes that are no report.
var ErrBad = errors.New("nflog: not understood")

// Packet is one dropped packet.
type Packet struct {
	Layer       string // layer that dropped it; empty: another rule of the group reports it
	Hook        string // prerouting, input, forward, output, postrouting, ingress, egress
	Usec        int64  // when Read had it: microseconds since the kernel started (CLOCK_BOOTTIME)
	UID         int64  // whose socket it came from; -1: not known
	Protocol    string // tcp, udp, icmp, icmpv6, arp, ..., "ip N", or 0x and an ethertype
	Source      string // as Destination
	Destination string // address:port, [address]:port, address, or MAC; of ARP the address asked for
	Link        string // by which it was to leave, or by which it came; "index N" once it is gone
	Bytes       int    // of the packet that the report holds
}

// Reader hears of the packets of one group. Read and Lost may be called while another goroutine
// calls Close.
type Reader struct {
	c    *netlink.Conn
	shut atomic.Bool
	wait []Packet
	next uint32 // sequence number of the next report
	lost atomic.Uint64
	any  bool // next is known
}

// Listen binds the group, which one Reader at a time can have in a network namespace: else
// unix.EBUSY or unix.EPERM. A kernel without NFLOG gives an error, too.
func Listen(group uint16) (*Reader, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nflog: %w", err)
	}
	r := &Reader{c: c}
	if err := r.bind(group); err != nil {
		return nil, errors.Join(fmt.Errorf("nflog: group %d: %w", group, err), r.Close())
	}
	return r, nil
}

func (r *Reader) bind(group uint16) error {
	// A report that finds no room is a gap in the sequence, not an error of the socket.
	if err := errors.Join(r.c.SetReadBuffer(socketBytes), r.c.SetOption(netlink.NoENOBUFS, true)); err != nil {
		return err
	}
	mode := append(binary.BigEndian.AppendUint32(nil, copyBytes), copyPacket, 0)
	for _, as := range [][]netlink.Attribute{
		{{Type: cfgCommand, Data: []byte{commandBind}}},
		{
			{Type: cfgMode, Data: mode},
			{Type: cfgTimeout, Data: binary.BigEndian.AppendUint32(nil, 1)}, // hundredths of a second
			{Type: cfgThreshold, Data: binary.BigEndian.AppendUint32(nil, 1)},
			{Type: cfgFlags, Data: binary.BigEndian.AppendUint16(nil, flagSequence)},
		},
	} {
		data, err := netlink.MarshalAttributes(as)
		if err != nil {
			return err
		}
		head := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(group >> 8), byte(group)}
		if err := r.configure(append(head, data...)); err != nil {
			return err
		}
	}
	return nil
}

// configure waits for the answer; reports may come before it.
func (r *Reader) configure(data []byte) error {
	m, err := r.c.Send(netlink.Message{
		Header: netlink.Header{Type: msgConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   data,
	})
	if err != nil {
		return err
	}
	for {
		answer, err := r.c.Receive()
		if err != nil {
			return err
		}
		for _, a := range answer {
			if a.Header.Type == netlink.Error && a.Header.Sequence == m.Header.Sequence {
				return nil
			}
			r.take(a)
		}
	}
}

// Read waits for a packet. After Close the error is os.ErrClosed.
func (r *Reader) Read() (Packet, error) {
	for len(r.wait) == 0 {
		msgs, err := r.c.Receive()
		switch {
		case r.shut.Load():
			return Packet{}, fmt.Errorf("nflog: %w", os.ErrClosed)
		case err != nil:
			return Packet{}, fmt.Errorf("nflog: %w", err)
		}
		for _, m := range msgs {
			r.take(m)
		}
	}
	p := r.wait[0]
	r.wait = r.wait[1:]
	return p, nil
}

// take keeps a report. What is none, or is damaged, counts as lost.
func (r *Reader) take(m netlink.Message) {
	if m.Header.Type != msgPacket {
		return
	}
	rep, err := parse(m.Data)
	if err != nil {
		r.lost.Add(1)
		return
	}
	if rep.numbered {
		if r.any {
			r.lost.Add(uint64(rep.number - r.next)) // numbers wrap
		}
		r.any, r.next = true, rep.number+1
	}
	rep.Usec = sinceBoot()
	if rep.link != 0 {
		rep.Link = r.name(rep.link)
	}
	r.wait = append(r.wait, rep.Packet)
}

// Lost returns how many reports the kernel made that Read did not give: there was no room.
func (r *Reader) Lost() uint64 { return r.lost.Load() }

// Close ends Read.
func (r *Reader) Close() error {
	r.shut.Store(true)
	return r.c.Close()
}

// name asks by the socket that is open anyway: any socket answers that.
func (r *Reader) name(index uint32) string {
	q, err := unix.NewIfreq("")
	if err != nil {
		return ""
	}
	q.SetUint32(index)
	raw, err := r.c.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) { err = unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, q) }), err)
	}
	if err != nil {
		return "index " + strconv.FormatUint(uint64(index), 10)
	}
	return q.Name()
}

func sinceBoot() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // a clock that each kernel has
	}
	return t.Nano() / 1000
}

// report is a Packet with what the Reader needs beside it.
type report struct {
	Packet
	link     uint32
	number   uint32
	numbered bool
	payload  []byte
	header   []byte // of the link layer
	kind     uint16 // ethertype
}

// parse reads the data of a message: nfgenmsg and attributes.
func parse(p []byte) (report, error) {
	r := report{Packet: Packet{UID: -1}}
	if len(p) < 4 {
		return r, fmt.Errorf("%w: %d bytes", ErrBad, len(p))
	}
	a, err := netlink.NewAttributeDecoder(p[4:])
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrBad, err)
	}
	a.ByteOrder = binary.BigEndian
	physical := false
	for a.Next() {
		switch kind := a.Type(); kind {
		case attrHeader:
			if b := a.Bytes(); len(b) >= 3 {
				r.kind = binary.BigEndian.Uint16(b)
			}
		case attrIn, attrOut:
			if n := a.Uint32(); !physical {
				r.link = n
			}
		case attrPhysIn, attrPhysOut: // the port of a bridge says more than the bridge
			r.link, physical = a.Uint32(), true
		case attrPayload:
			r.payload = a.Bytes()
		case attrLink:
			r.header = a.Bytes()
		case attrPrefix:
			r.Layer, r.Hook = origin(a.String())
		case attrUID:
			r.UID = int64(a.Uint32())
		case attrSequence:
			r.number, r.numbered = a.Uint32(), true
		}
	}
	if err := a.Err(); err != nil {
		return r, fmt.Errorf("%w: %w", ErrBad, err)
	}
	r.Bytes = len(r.payload)
	r.dissect(p[0])
	return r, nil
}

// origin splits the prefix that package nft gives its rules.
func origin(prefix string) (layer, hook string) {
	f := strings.Fields(prefix)
	if len(f) != 3 || f[0] != marker {
		return "", ""
	}
	return f[1], f[2]
}
