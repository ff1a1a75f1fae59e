package netlock_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"holdfast/firmware/evidence"
	"holdfast/firmware/netlock"
	"holdfast/firmware/netlock/bpf"
	"holdfast/firmware/netlock/nft"
	"holdfast/firmware/netlock/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// patience is far above what the lock takes, so that a hang fails and a busy machine does not.
const patience = 10 * time.Second

// layersHere are those that a namespace has, where it has a cgroup of its own.
var layersHere = []string{netlock.NftInet, netlock.NftARP, netlock.NftBridge, netlock.NftNetdev, netlock.TC, netlock.LinksDown,
	netlock.CgroupBPF, netlock.Sysctl}

// lines keeps what a lock reports.
type lines struct {
	mu   sync.Mutex
	list []evidence.Attempt
}

func (l *lines) add(a evidence.Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, a)
}

// has tells whether there is a line of a layer and kind.
func (l *lines) has(layer, what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.list, func(a evidence.Attempt) bool { return a.Layer == layer && a.What == what })
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%+v", l.list)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addLink makes a pair of links and sets one up. They go with the test.
func addLink(t testing.TB, name string) netlink.Link {
	t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	must(t, netlink.LinkAdd(v))
	t.Cleanup(func() { _ = netlink.LinkDel(v) }) // a test may have removed it
	must(t, netlink.LinkSetUp(v))
	return v
}

// newLock makes the lock of this namespace. Its rules are taken away when the test ends.
func newLock(t testing.TB, without ...string) (*netlock.Lock, *lines) {
	t.Helper()
	got := new(lines)
	l, err := netlock.New(netlock.Config{Namespace: true, Cgroup: nstest.Cgroup(t), Without: without, Attempts: got.add})
	must(t, err)
	t.Cleanup(func() {
		must(t, l.Close())
		tables, err := nft.New(nft.Config{})
		must(t, err)
		must(t, tables.Remove())
		must(t, tables.Close())
	})
	return l, got
}

// states returns the state of each layer of a namespace.
func states(l *netlock.Lock) map[string]string {
	m := map[string]string{}
	for _, y := range l.State().Layers {
		m[y.Name] = y.State
	}
	return m
}

// wantAll wants a state for all layers of a namespace.
func wantAll(t testing.TB, l *netlock.Lock, when, state string) {
	t.Helper()
	have := states(l)
	for _, n := range layersHere {
		if have[n] != state {
			t.Errorf("%s: %s is %s, want %s: %+v", when, n, have[n], state, l.State().Layers)
		}
	}
}

// run watches until the test ends.
func run(t testing.TB, l *netlock.Lock) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		must(t, <-done)
	})
}

// eventually waits for the kernel and the lock.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func isUp(t testing.TB, name string) bool {
	t.Helper()
	flags, err := os.ReadFile("/sys/class/net/" + name + "/flags")
	must(t, err)
	var n int
	_, err = fmt.Sscanf(string(flags), "0x%x", &n)
	must(t, err)
	return n&1 != 0 // IFF_UP
}

// TestApply: every layer that a namespace has holds, and the lock does not call itself a board's.
func TestApply(t *testing.T) {
	nstest.Need(t)
	addLink(t, "up0")
	l, _ := newLock(t)
	err := l.Apply()
	if err == nil || !strings.Contains(err.Error(), netlock.Capabilities) {
		t.Errorf("Apply: %v, want that capabilities are missing", err)
	}
	wantAll(t, l, "after Apply", netlock.StateOK)
	s := l.State()
	if s.Lock != evidence.Open || s.Grade != evidence.None || !strings.Contains(s.Why, netlock.Swap) {
		t.Errorf("a namespace is called %s, grade %s: %s", s.Lock, s.Grade, s.Why)
	}
	if isUp(t, "up0") || isUp(t, "up0p") {
		t.Error("links are up")
	}
	var names []string
	for _, y := range s.Layers {
		names = append(names, y.Name)
	}
	if !slices.Equal(names, netlock.Names()) {
		t.Errorf("layers in the order %v, want %v", names, netlock.Names())
	}
}

// strikes break one layer each, as somebody with every power does.
var strikes = map[string]func(t *testing.T){
	netlock.NftInet: func(t *testing.T) { dropTables(t, nftables.TableFamilyINet) },
	netlock.NftARP:  func(t *testing.T) { dropTables(t, nftables.TableFamilyARP) },
	netlock.NftBridge: func(t *testing.T) {
		dropTables(t, nftables.TableFamilyBridge)
	},
	netlock.NftNetdev: func(t *testing.T) { dropTables(t, nftables.TableFamilyNetdev) },
	netlock.TC: func(t *testing.T) {
		link, err := netlink.LinkByName("up0")
		must(t, err)
		tc, err := bpf.NewTC()
		must(t, err)
		must(t, tc.Drop(link.Attrs().Index))
		must(t, tc.Close())
	},
	netlock.Sysctl: func(t *testing.T) {
		must(t, os.WriteFile("/proc/sys/net/ipv4/conf/all/forwarding", []byte("1"), 0))
	},
}

// dropTables deletes all tables of a family that can be deleted: those without an owner.
func dropTables(t *testing.T, family nftables.TableFamily) {
	t.Helper()
	c, err := nftables.New()
	must(t, err)
	tables, err := c.ListTablesOfFamily(family)
	must(t, err)
	deleted := 0
	for _, table := range tables {
		c.DelTable(table)
		if c.Flush() == nil {
			deleted++
		}
	}
	if deleted == 0 {
		t.Fatalf("no table of %d could be deleted: the strike is none", len(tables))
	}
}

// TestStrikes: what somebody changed is set right, and he is told of.
func TestStrikes(t *testing.T) {
	nstest.Need(t)
	for name, strike := range strikes {
		t.Run(name, func(t *testing.T) {
			addLink(t, "up0")
			l, got := newLock(t)
			_ = l.Apply() // TestApply looks at what it says
			run(t, l)
			strike(t)
			eventually(t, "a line about the strike", func() bool { return got.has(name, "strike") })
			eventually(t, "the layer again", func() bool { return states(l)[name] == netlock.StateOK })
			if s := l.State(); s.Strikes < 1 {
				t.Errorf("%d strikes counted", s.Strikes)
			}
		})
	}
}

// TestLinkUp: a link that somebody sets up goes down again, and he is told of, but it is no
// strike against the rules, which held.
func TestLinkUp(t *testing.T) {
	nstest.Need(t)
	link := addLink(t, "up0")
	l, got := newLock(t)
	_ = l.Apply()
	run(t, l)
	must(t, netlink.LinkSetUp(link))
	eventually(t, "a line about the link", func() bool { return got.has(netlock.LinksDown, "link") })
	eventually(t, "the link down", func() bool { return !isUp(t, "up0") })
	if s := l.State(); s.Refused < 1 || s.Strikes != 0 {
		t.Errorf("refused %d, strikes %d, want 1 and 0: %v", s.Refused, s.Strikes, got)
	}
}

// TestNewLinks: links that come later, and are renamed, get every layer, and are no strike.
func TestNewLinks(t *testing.T) {
	nstest.Need(t)
	l, got := newLock(t)
	_ = l.Apply()
	run(t, l)
	for i := range 10 {
		link := addLink(t, fmt.Sprint("new", i))
		must(t, netlink.LinkSetDown(link))
		must(t, netlink.LinkSetName(link, fmt.Sprint("other", i)))
		must(t, netlink.LinkSetUp(link))
	}
	eventually(t, "all links down", func() bool {
		for i := range 10 {
			if isUp(t, fmt.Sprint("other", i)) || isUp(t, fmt.Sprint("new", i, "p")) {
				return false
			}
		}
		return true
	})
	netlock.Check(l)
	wantAll(t, l, "with new links", netlock.StateOK)
	if s := l.State(); s.Strikes != 0 {
		t.Errorf("%d strikes: %v", s.Strikes, got)
	}
}

// TestStrangeNames: a link has a name of bytes, and one that is not UTF-8 must not get past the
// layers that go by name, nor keep them from the other links.
func TestStrangeNames(t *testing.T) {
	nstest.Need(t)
	for i, name := range []string{"\xff\xfe", "a\x01b", "\x7f", "eth0\"", "*"} {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: fmt.Sprint("peer", i)}
		must(t, netlink.LinkAdd(link))
		t.Cleanup(func() { _ = netlink.LinkDel(link) })
	}
	l, _ := newLock(t)
	_ = l.Apply()
	wantAll(t, l, "with strange names", netlock.StateOK)
	netlock.Check(l)
	wantAll(t, l, "looked at again", netlock.StateOK)
}

// TestOpen: a ticket's link may be up, the others may not; and after it everything is as before.
func TestOpen(t *testing.T) {
	nstest.Need(t)
	addLink(t, "named")
	other := addLink(t, "other")
	l, got := newLock(t)
	_ = l.Apply()
	run(t, l)
	must(t, l.Open([]string{"named"}))
	wantAll(t, l, "open", netlock.StateOpen)
	if s := l.State(); s.Lock != evidence.Open || s.Grade != evidence.None || !strings.Contains(s.Why, "named") {
		t.Errorf("open: %s, grade %s, %q", s.Lock, s.Grade, s.Why)
	}
	if !isUp(t, "named") {
		t.Error("the named link is down")
	}
	must(t, netlink.LinkSetUp(other))
	eventually(t, "the other link down", func() bool { return !isUp(t, "other") })
	must(t, l.Shut())
	if isUp(t, "named") {
		t.Error("the named link is up after Shut")
	}
	wantAll(t, l, "shut", netlock.StateOK)
	if s := l.State(); s.Strikes != 0 {
		t.Errorf("%d strikes: %v", s.Strikes, got)
	}
}

// TestWithout: a layer that is left out is told, and a needed one keeps the lock open.
func TestWithout(t *testing.T) {
	nstest.Need(t)
	for _, name := range layersHere {
		l, _ := newLock(t, name)
		err := l.Apply()
		if state := states(l)[name]; state != netlock.StateLeftOut {
			t.Errorf("%s is %s, want left out", name, state)
		}
		needed := strings.HasPrefix(name, "nft-") && name != netlock.NftNetdev
		if named := err != nil && strings.Contains(err.Error(), name+" left out"); named != needed {
			t.Errorf("without %s: %v; needed: %v", name, err, needed)
		}
	}
	l, _ := newLock(t, netlock.NftInet, netlock.NftARP, netlock.NftBridge)
	_ = l.Apply()
	if state := states(l)[netlock.NftNetdev]; state != netlock.StateOK {
		t.Errorf("without the other tables %s is %s", netlock.NftNetdev, state)
	}
	if _, err := netlock.New(netlock.Config{Namespace: true, Without: []string{"nft-inett"}}); err == nil {
		t.Error("an unknown layer was left out")
	}
}

// TestTakeover: a second lock over the first one's is no strike, and holds.
func TestTakeover(t *testing.T) {
	nstest.Need(t)
	addLink(t, "up0")
	first, _ := newLock(t)
	_ = first.Apply()
	must(t, first.Close())
	second, got := newLock(t)
	_ = second.Apply()
	run(t, second)
	wantAll(t, second, "taken over", netlock.StateOK)
	if s := second.State(); s.Strikes != 0 {
		t.Errorf("%d strikes: %v", s.Strikes, got)
	}
}

// BenchmarkCheck is one look at all layers of two links, as there is one each second.
func BenchmarkCheck(b *testing.B) {
	nstest.Need(b)
	addLink(b, "up0")
	l, _ := newLock(b)
	_ = l.Apply()
	b.ReportAllocs()
	for b.Loop() {
		netlock.Check(l)
	}
}
