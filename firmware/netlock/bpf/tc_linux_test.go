package bpf_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/bpf"
	"holdfast/firmware/netlock/nstest"
)

// ways are both means of closing a link.
var ways = []string{"tcx", "clsact"}

// eachWay runs a test with both, as far as the kernel has them.
func eachWay(t *testing.T, f func(t *testing.T, way string)) {
	nstest.Need(t)
	have := bpf.Detect()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			if err := map[string]error{"tcx": have.TCX, "clsact": have.Clsact}[way]; err != nil {
				t.Skip(err)
			}
			f(t, way)
		})
	}
}

func newTC(t testing.TB, way string) *bpf.TC {
	t.Helper()
	tc, err := bpf.NewTC()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tc.Close() })
	if way == "clsact" {
		tc.ForceClsact()
	}
	return tc
}

// TestClosedLink: nothing leaves and nothing comes in, it is counted, and what would have left is
// reported.
func TestClosedLink(t *testing.T) {
	eachWay(t, func(t *testing.T, way string) {
		w := newWire(t)
		a := start(t, "", "attacker")
		tc := newTC(t, way)
		l := newLog()
		events(t, tc, l.add)
		if !w.passes(t) {
			t.Fatal("the open link lets nothing pass")
		}
		if err := errors.Join(tc.Add(w.near), tc.Verify(w.near)); err != nil {
			t.Fatal(err)
		}
		if w.passes(t) {
			t.Error("a frame passed")
		}
		e := only(l.wait(t, func(e []bpf.Event) bool { return len(only(e, isMarker)) > 0 }), isMarker)[0]
		if e.Hook != bpf.TCEgress || e.Protocol() != "0x88b5" || e.Destination() != "ff:ff:ff:ff:ff:ff" || e.Ifindex != w.near || e.UID != 0 {
			t.Errorf("reported: %+v", e)
		}
		for _, x := range []struct{ name, to, protocol string }{
			{"udp sendto", outside4.String(), "udp"}, {"udp sendto", outside6.String(), "udp"}, {"tcp connect", outside4.String(), "tcp"},
			{"raw socket", outside4.String(), "icmp"}, {"udplite connect", outside4.String(), "udplite"},
		} {
			a.say(t, x.name+"\t"+x.to)
			want := x.to
			if x.protocol == "icmp" {
				want = outside4.Addr().String()
			}
			fits := func(e bpf.Event) bool { return e.Protocol() == x.protocol && e.Destination() == want && e.UID == 0 }
			l.wait(t, func(e []bpf.Event) bool { return len(only(e, fits)) > 0 })
		}
		eventually(t, "nothing came in and was dropped", func() bool {
			w.datagramFromOutside(t, 14550)
			counters, err := tc.Counters()
			mustDo(t, err)
			return counters["tc-egress"] >= 6 && counters["tc-ingress"] > 0
		})
		if err := errors.Join(tc.Drop(w.near), tc.Drop(w.near)); err != nil {
			t.Fatal(err)
		}
		if err := tc.Verify(w.near); !errors.Is(err, bpf.ErrDetached) {
			t.Errorf("open: %v", err)
		}
		if !w.passes(t) {
			t.Error("the link that was opened lets nothing pass")
		}
		nothingLeft(t, w.near)
	})
}

func isMarker(e bpf.Event) bool { return e.Proto == markerType }

// nothingLeft: an opened link is as it was.
func nothingLeft(t *testing.T, ifindex int) {
	t.Helper()
	if bpf.Detect().TCX == nil {
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			if ids := attachedAt(t, ifindex, at); len(ids) != 0 {
				t.Errorf("%s: programs %v", at, ids)
			}
		}
	}
	qdiscs, err := netlink.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			t.Error("the qdisc is left")
		}
	}
}

// TestLinkTakeover: a guard is killed while a program sends; the next ones take its links over.
func TestLinkTakeover(t *testing.T) {
	nstest.Need(t)
	eachWay(t, func(t *testing.T, way string) {
		w := newWire(t)
		first := start(t, "", "closer "+way)
		if got := first.say(t, strconv.Itoa(w.near)); got != "closed" {
			t.Fatal(got)
		}
		w.drain()
		p := start(t, "", "prober sendto")
		p.say(t, outside4.String())
		first.kill()
		var last *bpf.TC
		for range 5 {
			if last != nil {
				if err := last.Close(); err != nil {
					t.Fatal(err)
				}
			}
			last = newTC(t, way)
			if err := errors.Join(last.Add(w.near), last.Add(w.near), last.Verify(w.near)); err != nil {
				t.Fatal(err)
			}
		}
		var tried, passed uint64
		if _, err := fmt.Sscan(p.say(t, "stop"), &tried, &passed); err != nil {
			t.Fatal(err)
		}
		if n := w.left(outside4.Addr()); n != 0 || tried == 0 {
			t.Errorf("%d frames of %d left", n, tried)
		}
		counters, err := last.Counters()
		if err != nil || counters["tc-egress"] < tried {
			t.Errorf("%d attempts, counters %v %v", tried, counters, err)
		}
		if err := last.Drop(w.near); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, w.near)
	})
}

// TestLinkStrike: what somebody with root's powers can do to a closed link is noticed, and Add
// closes it again.
func TestLinkStrike(t *testing.T) {
	strikes := []struct {
		name, way string
		do        func(t *testing.T, ifindex int)
		want      error
		opens     bool
	}{
		{"detached", "tcx", func(t *testing.T, i int) { detachAll(t, i, ebpf.AttachTCXEgress) }, bpf.ErrDetached, true},
		{"ingress detached", "tcx", func(t *testing.T, i int) { detachAll(t, i, ebpf.AttachTCXIngress) }, bpf.ErrDetached, false},
		{"another program first", "tcx", func(t *testing.T, i int) { attach(t, i, ebpf.AttachTCXEgress, letPass(t), 0, link.Head()) }, bpf.ErrOrder, true},
		{"another program last", "tcx", func(t *testing.T, i int) { attach(t, i, ebpf.AttachTCXEgress, letPass(t), 0, link.Tail()) }, nil, false},
		{"replaced", "tcx", func(t *testing.T, i int) {
			old, err := ebpf.NewProgramFromID(attachedAt(t, i, ebpf.AttachTCXEgress)[0])
			mustDo(t, err)
			defer old.Close()
			attach(t, i, ebpf.AttachTCXEgress, letPass(t), 0, link.ReplaceProgram(old))
		}, bpf.ErrDetached, true},
		{"a link object first", "tcx", linkFirst, bpf.ErrOrder, true},
		{"qdisc removed", "clsact", func(t *testing.T, i int) { mustDo(t, netlink.QdiscDel(clsact(i))) }, bpf.ErrDetached, true},
		{"ingress qdisc instead", "clsact", func(t *testing.T, i int) {
			mustDo(t, netlink.QdiscDel(clsact(i)))
			mustDo(t, netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: i, Handle: 0xffff0000, Parent: netlink.HANDLE_INGRESS}}))
		}, bpf.ErrDetached, true},
		{"filter removed", "clsact", func(t *testing.T, i int) { mustDo(t, netlink.FilterDel(filter(t, i, 1, 1, nil))) }, bpf.ErrDetached, true},
		{"filter replaced", "clsact", func(t *testing.T, i int) { mustDo(t, netlink.FilterReplace(filter(t, i, 1, 1, letPass(t)))) }, bpf.ErrDetached, true},
		{"another filter first", "clsact", func(t *testing.T, i int) { mustDo(t, netlink.FilterAdd(filter(t, i, 1, 7, letPass(t)))) }, bpf.ErrOrder, true},
		{"another filter later", "clsact", func(t *testing.T, i int) { mustDo(t, netlink.FilterAdd(filter(t, i, 2, 1, letPass(t)))) }, nil, false},
		{"a filter of another kind in its place", "clsact", func(t *testing.T, i int) {
			mustDo(t, netlink.FilterDel(filter(t, i, 1, 1, nil)))
			mustDo(t, netlink.FilterAdd(&netlink.U32{FilterAttrs: filter(t, i, 1, 0, nil).FilterAttrs}))
		}, bpf.ErrDetached, true},
		{"a qdisc with a shared block", "clsact", func(t *testing.T, i int) {
			mustDo(t, netlink.QdiscDel(clsact(i)))
			q, block := clsact(i), uint32(10)
			q.IngressBlock = &block
			mustDo(t, netlink.QdiscAdd(q))
		}, bpf.ErrDetached, true},
	}
	nstest.Need(t)
	for _, s := range strikes {
		t.Run(s.way+" "+s.name, func(t *testing.T) {
			have := bpf.Detect()
			if err := map[string]error{"tcx": have.TCX, "clsact": have.Clsact}[s.way]; err != nil {
				t.Skip(err)
			}
			w := newWire(t)
			tc := newTC(t, s.way)
			mustDo(t, errors.Join(tc.Add(w.near), tc.Verify(w.near)))
			for round := range 2 {
				s.do(t, w.near)
				if err := tc.Verify(w.near); !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
					t.Errorf("round %d: %v, want %v", round, err, s.want)
				}
				if opened := w.passes(t); opened != s.opens {
					t.Errorf("round %d: a frame passed: %v", round, opened)
				}
				if err := errors.Join(tc.Add(w.near), tc.Verify(w.near)); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if w.passes(t) {
					t.Errorf("round %d: a frame passed a closed link", round)
				}
				if s.want == nil {
					return
				}
			}
		})
	}
}

func linkFirst(t *testing.T, ifindex int) {
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: letPass(t), Attach: ebpf.AttachTCXEgress, Anchor: link.Head()})
	mustDo(t, err)
	t.Cleanup(func() { _ = l.Close() })
}

func clsact(ifindex int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: 0xffff0000, Parent: netlink.HANDLE_CLSACT}}
}

func filter(t *testing.T, ifindex int, preference uint16, handle uint32, p *ebpf.Program) *netlink.BpfFilter {
	f := &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_EGRESS, Handle: handle, Priority: preference, Protocol: unix.ETH_P_ALL,
	}, Fd: -1}
	if p != nil {
		f.Fd, f.Name, f.DirectAction = p.FD(), "passes", true
	}
	return f
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLinkErrors: lo, a link that is not there, a TC that was closed.
func TestLinkErrors(t *testing.T) {
	eachWay(t, func(t *testing.T, way string) {
		tc := newTC(t, way)
		for name, f := range map[string]func(int) error{"Add": tc.Add, "Drop": tc.Drop, "Verify": tc.Verify} {
			if err := f(1); !errors.Is(err, bpf.ErrLoopback) {
				t.Errorf("%s lo: %v", name, err)
			}
			if err := f(4711); (err == nil) != (name == "Drop") {
				t.Errorf("%s: a link that is not there: %v", name, err)
			}
		}
		if err := tc.Add(4711); !errors.Is(err, unix.ENODEV) {
			t.Errorf("a link that is not there: %v", err)
		}
		mustDo(t, tc.Close())
		mustDo(t, tc.Close())
		_, counters := tc.Counters()
		_, reader := tc.Events(func(bpf.Event) {})
		for _, err := range []error{tc.Add(2), tc.Drop(2), tc.Verify(2), counters, reader} {
			if !errors.Is(err, bpf.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		}
	})
}

// TestDetect leaves nothing behind.
func TestDetect(t *testing.T) {
	newWire(t)
	for range 3 {
		t.Logf("%+v", bpf.Detect())
	}
	nothingLeft(t, 1)
}
