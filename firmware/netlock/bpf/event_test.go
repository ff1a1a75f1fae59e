package bpf_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"holdfast/firmware/netlock/bpf"
)

// record builds the bytes that a program writes.
type record struct {
	nsec                          uint64
	pid, tid, uid, proto, ifindex uint32
	port                          uint16
	hook, family                  byte
	addr, comm                    string
	typ                           uint32
}

func (r record) bytes() []byte {
	p := make([]byte, 72)
	n := binary.NativeEndian
	n.PutUint64(p, r.nsec)
	n.PutUint32(p[8:], r.pid)
	n.PutUint32(p[12:], r.tid)
	n.PutUint32(p[16:], r.uid)
	binary.BigEndian.PutUint16(p[20:], r.port)
	p[22], p[23] = r.hook, r.family
	n.PutUint32(p[24:], r.proto)
	n.PutUint32(p[28:], r.ifindex)
	copy(p[32:48], r.addr)
	copy(p[48:64], r.comm)
	n.PutUint32(p[64:], r.typ)
	return p
}

var records = []struct {
	name                      string
	record                    record
	event                     bpf.Event
	what, protocol, to, about string
}{
	{
		"connect4",
		record{nsec: 5, pid: 7, tid: 8, uid: 1000, proto: 6, port: 443, hook: 1, family: 2, addr: "\xc0\x00\x02\x01", comm: "curl", typ: 1},
		bpf.Event{Nsec: 5, PID: 7, TID: 8, UID: 1000, Comm: "curl", Hook: bpf.Connect4, Family: 2, Type: 1, Proto: 6, Addr: netip.MustParseAddr("192.0.2.1"), Port: 443, Count: 1},
		"connect", "tcp", "192.0.2.1:443", "",
	},
	{
		"connect6, mapped",
		record{hook: 2, family: 10, proto: 6, port: 80, addr: "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01", comm: "sixteen bytes!!!"},
		bpf.Event{Hook: bpf.Connect6, Family: 10, Proto: 6, Addr: netip.MustParseAddr("::ffff:192.0.2.1"), Port: 80, Comm: "sixteen bytes!!!", Count: 1},
		"connect", "tcp", "[::ffff:192.0.2.1]:80", "",
	},
	{
		"sendmsg6",
		record{hook: 4, family: 10, proto: 17, port: 53, addr: "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
		bpf.Event{Hook: bpf.Sendmsg6, Family: 10, Proto: 17, Addr: netip.MustParseAddr("2001:db8::1"), Port: 53, Count: 1},
		"send", "udp", "[2001:db8::1]:53", "",
	},
	{
		"bind4",
		record{hook: 5, family: 2, proto: 6, addr: "\xc0\x00\x02\x01"},
		bpf.Event{Hook: bpf.Bind4, Family: 2, Proto: 6, Addr: netip.MustParseAddr("192.0.2.1"), Count: 1},
		"socket", "tcp", "192.0.2.1", "bind to an address that is not of loopback",
	},
	{
		"raw socket",
		record{hook: 7, family: 2, proto: 1, typ: 3},
		bpf.Event{Hook: bpf.Socket, Family: 2, Proto: 1, Type: 3, Addr: netip.MustParseAddr("0.0.0.0"), Count: 1},
		"socket", "icmp", "", "raw socket",
	},
	{
		"UDP-Lite socket",
		record{hook: 7, family: 10, proto: 136, typ: 2},
		bpf.Event{Hook: bpf.Socket, Family: 10, Proto: 136, Type: 2, Addr: netip.MustParseAddr("::"), Count: 1},
		"socket", "udplite", "", "socket of a protocol that is neither TCP nor UDP",
	},
	{
		"packet without a user",
		record{hook: 8, family: 2, proto: 2, uid: 0xffffffff, ifindex: 3, addr: "\xe0\x00\x00\x16"},
		bpf.Event{Hook: bpf.Egress, Family: 2, Proto: 2, UID: -1, Ifindex: 3, Addr: netip.MustParseAddr("224.0.0.22"), Count: 1},
		"frame", "igmp", "224.0.0.22", "",
	},
	{
		"frame that is not IP",
		record{hook: 10, proto: 0x0806, ifindex: 2, addr: "\xff\xff\xff\xff\xff\xff"},
		bpf.Event{Hook: bpf.TCEgress, Proto: 0x0806, Ifindex: 2, MAC: [6]byte{255, 255, 255, 255, 255, 255}, Count: 1},
		"frame", "arp", "ff:ff:ff:ff:ff:ff", "",
	},
	{
		"another EtherType",
		record{hook: 10, proto: 0x88b5},
		bpf.Event{Hook: bpf.TCEgress, Proto: 0x88b5, Count: 1},
		"frame", "0x88b5", "", "",
	},
	{
		"another IP protocol",
		record{hook: 8, family: 2, proto: 47, addr: "\xc0\x00\x02\x01"},
		bpf.Event{Hook: bpf.Egress, Family: 2, Proto: 47, Addr: netip.MustParseAddr("192.0.2.1"), Count: 1},
		"frame", "ip-47", "192.0.2.1", "",
	},
}

func TestParse(t *testing.T) {
	for _, test := range records {
		t.Run(test.name, func(t *testing.T) {
			e, err := bpf.Parse(test.record.bytes())
			if err != nil || e != test.event {
				t.Errorf("%+v %v\nwant %+v", e, err, test.event)
			}
			if e.What() != test.what || e.Protocol() != test.protocol || e.Destination() != test.to || e.Detail() != test.about {
				t.Errorf("%q %q %q %q, want %q %q %q %q", e.What(), e.Protocol(), e.Destination(), e.Detail(), test.what, test.protocol, test.to, test.about)
			}
			if a := e.AddrPort(); a.IsValid() != (test.to != "" && e.Family != 0) || a.IsValid() && a.Port() != e.Port {
				t.Errorf("address %v", a)
			}
		})
	}
}

func TestParseBad(t *testing.T) {
	good := records[0].record
	change := func(f func(*record)) []byte {
		r := good
		f(&r)
		return r.bytes()
	}
	for name, p := range map[string][]byte{
		"empty":       nil,
		"short":       good.bytes()[:71],
		"long":        append(good.bytes(), 0),
		"no hook":     change(func(r *record) { r.hook = 0 }),
		"no such":     change(func(r *record) { r.hook = 12 }),
		"family":      change(func(r *record) { r.family = 3 }),
		"time":        change(func(r *record) { r.nsec = 1 << 63 }),
		"process":     change(func(r *record) { r.pid = 1 << 31 }),
		"thread":      change(func(r *record) { r.tid = 1 << 31 }),
		"link number": change(func(r *record) { r.ifindex = 1 << 31 }),
	} {
		if e, err := bpf.Parse(p); !errors.Is(err, bpf.ErrRecord) || e != (bpf.Event{}) {
			t.Errorf("%s: %+v %v", name, e, err)
		}
	}
}

// TestLostText: of what did not fit the buffer only the number is known, and nothing is made up.
func TestLostText(t *testing.T) {
	e := bpf.Event{Hook: bpf.Connect4, UID: -1, Count: 9, Lost: true}
	if e.What() != "connect" || e.Protocol() != "" || e.Destination() != "" || e.Detail() == "" {
		t.Errorf("%q %q %q %q", e.What(), e.Protocol(), e.Destination(), e.Detail())
	}
	for _, h := range []bpf.Hook{0, 12, 255} {
		if h.String() == "" {
			t.Errorf("hook %d has no name", h)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, test := range records {
		f.Add(test.record.bytes())
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := bpf.Parse(p)
		if err != nil {
			if !errors.Is(err, bpf.ErrRecord) || e != (bpf.Event{}) {
				t.Fatalf("%+v %v", e, err)
			}
			return
		}
		if e.Count != 1 || e.Lost || len(e.Comm) > 16 || e.PID < 0 || e.UID < -1 || e.What() == "" {
			t.Fatalf("%+v", e)
		}
		_, _, _ = e.Protocol(), e.Destination(), e.Detail()
	})
}
