package nft_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/nft"
	"holdfast/firmware/netlock/nstest"
)

// TestDetect: on this kernel, nothing is left behind, and what builds on another is there with it.
func TestDetect(t *testing.T) {
	nstest.Need(t)
	s := nft.Detect()
	if left := tableNames(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	switch {
	case s.Persist == nil && s.Owner != nil, s.Owner == nil && s.Inet != nil, s.EveryLink == nil && s.Persist != nil:
		t.Errorf("found %+v", s)
	}
	t.Logf("%+v", s)
}

// lacking is a kernel that refuses some batches with an errno.
type lacking struct {
	name  string
	errno error
	is    func(r nft.Request) bool
	want  func(nft.Support) []error // what it lacks
}

func family(f uint8) func(nft.Request) bool {
	return func(r nft.Request) bool { return r.Family == f }
}

// hooked: a chain of a family at a hook.
func hooked(f uint8, hook uint32) func(nft.Request) bool {
	num := append([]byte{8, 0, unix.NFTA_HOOK_HOOKNUM, 0}, binary.BigEndian.AppendUint32(nil, hook)...)
	return func(r nft.Request) bool {
		return r.Family == f && r.Kind == unix.NFT_MSG_NEWCHAIN && bytes.Contains(r.Attrs, num)
	}
}

// flags: a table with any of these flags.
func flags(mask byte) func(nft.Request) bool {
	return func(r nft.Request) bool {
		return r.Kind == unix.NFT_MSG_NEWTABLE && r.Attrs[len(r.Attrs)-1]&mask != 0
	}
}

func expression(name string) func(nft.Request) bool {
	return func(r nft.Request) bool {
		return r.Kind == unix.NFT_MSG_NEWRULE && bytes.Contains(r.Attrs, []byte(name+"\x00"))
	}
}

func prefixed(r nft.Request) bool {
	return r.Kind == unix.NFT_MSG_NEWCHAIN && bytes.Contains(r.Attrs, []byte{5, 0, 2, 0, 0}) // NFTA_DEVICE_PREFIX, empty
}

var lackings = []lacking{
	{"nothing", nil, func(nft.Request) bool { return false }, func(nft.Support) []error { return nil }},
	{"inet", unix.EAFNOSUPPORT, family(unix.NFPROTO_INET), func(s nft.Support) []error { return []error{s.Inet, s.Owner, s.Persist} }},
	{"arp", unix.EAFNOSUPPORT, family(unix.NFPROTO_ARP), func(s nft.Support) []error { return []error{s.ARP} }},
	{"bridge", unix.EOPNOTSUPP, family(unix.NFPROTO_BRIDGE), func(s nft.Support) []error { return []error{s.Bridge} }},
	{"netdev", unix.ENOENT, family(unix.NFPROTO_NETDEV), func(s nft.Support) []error { return []error{s.Ingress, s.Egress, s.EveryLink} }},
	{"egress, 5.15", unix.EOPNOTSUPP, hooked(unix.NFPROTO_NETDEV, 1), func(s nft.Support) []error { return []error{s.Egress} }},
	{"owner, 5.10", unix.EINVAL, flags(6), func(s nft.Support) []error { return []error{s.Owner, s.Persist} }},
	{"persist, 6.8", unix.EOPNOTSUPP, flags(4), func(s nft.Support) []error { return []error{s.Persist} }},
	{"prefixes, 6.16", unix.EINVAL, prefixed, func(s nft.Support) []error { return []error{s.EveryLink} }},
	{"log", unix.ENOENT, expression("log"), func(s nft.Support) []error { return []error{s.Log} }},
	{"limit", unix.ENOENT, expression("limit"), func(s nft.Support) []error { return []error{s.Log} }},
	{"objref", unix.ENOENT, expression("objref"), func(s nft.Support) []error { return []error{s.Count} }},
	{"permission", unix.EPERM, func(nft.Request) bool { return true }, all},
	{"nf_tables", errors.New("silent"), func(nft.Request) bool { return true }, all},
}

func all(s nft.Support) []error {
	return []error{s.Inet, s.ARP, s.Bridge, s.Ingress, s.Egress, s.EveryLink, s.Owner, s.Persist, s.Log, s.Count}
}

func TestDetectLacks(t *testing.T) {
	for _, k := range lackings {
		s := nft.DetectOn(func(rs []nft.Request) error {
			for _, r := range rs {
				if k.is(r) {
					return k.errno
				}
			}
			return nil
		})
		lacks := k.want(s)
		for _, err := range lacks {
			if !errors.Is(err, k.errno) {
				t.Errorf("without %s: %v, want %v", k.name, err, k.errno)
			}
		}
		n := 0
		for _, err := range all(s) {
			if err != nil {
				n++
			}
		}
		if n != len(lacks) {
			t.Errorf("without %s: %+v", k.name, s)
		}
	}
}

// attr encodes one attribute; nested ones are marked or not, as kernels do.
func attr(kind uint16, data ...byte) []byte {
	p := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
	p = append(binary.NativeEndian.AppendUint16(p, kind), data...)
	return append(p, make([]byte, -len(data)&3)...)
}

func TestCanonical(t *testing.T) {
	exprs := func(mark uint16, data []byte) []byte {
		name := attr(unix.NFTA_EXPR_NAME, []byte("immediate\x00")...)
		return attr(unix.NFTA_LIST_ELEM|mark, append(name, attr(unix.NFTA_EXPR_DATA|mark, data...)...)...)
	}
	verdict := func(mark uint16, code byte) []byte {
		v := attr(unix.NFTA_DATA_VERDICT|mark, attr(unix.NFTA_VERDICT_CODE, 0, 0, 0, code)...)
		return attr(unix.NFTA_IMMEDIATE_DATA|mark, v...)
	}
	register := attr(unix.NFTA_IMMEDIATE_DREG, 0, 0, 0, 0)
	want, extra, err := nft.Canonical(exprs(0, append(bytes.Clone(register), verdict(0, 0)...)))
	if err != nil || extra != "" {
		t.Fatalf("%q %q %v", want, extra, err)
	}
	for name, c := range map[string]struct {
		p     []byte
		same  bool
		extra bool
	}{
		"marked, in another order": {exprs(unix.NLA_F_NESTED, append(verdict(unix.NLA_F_NESTED, 0), register...)), true, false},
		"another verdict":          {exprs(0, append(bytes.Clone(register), verdict(0, 1)...)), false, false},
		"an attribute to come":     {exprs(0, append(append(bytes.Clone(register), verdict(0, 0)...), attr(77, 1)...)), true, true},
		"an expression more":       {append(exprs(0, verdict(0, 0)), exprs(0, verdict(0, 0))...), false, false},
	} {
		got, extra, err := nft.Canonical(c.p)
		if err != nil || (got == want) != c.same || (extra != "") != c.extra {
			t.Errorf("%s: %q %q %v", name, got, extra, err)
		}
	}
	if _, _, err := nft.Canonical([]byte{9, 0, 1, 0, 1}); err == nil {
		t.Error("damaged expressions were read")
	}
}

// FuzzDecode: no bytes of a dump or an answer break the decoders.
func FuzzDecode(f *testing.F) {
	for _, p := range nft.RuleData() {
		f.Add(p)
	}
	f.Add([]byte{36, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, p []byte) {
		if a, b := nft.Decode(p), nft.Decode(bytes.Clone(p)); a != b {
			t.Errorf("%q, then %q", a, b)
		}
	})
}
