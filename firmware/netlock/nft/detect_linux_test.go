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
