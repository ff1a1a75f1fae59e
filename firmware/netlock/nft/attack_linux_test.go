package nft_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/nft"
	"holdfast/firmware/netlock/nstest"
)

func TestNew(t *testing.T) {
	nstest.Need(t)
	noBridge := func(s *nft.Support) { s.Bridge = fmt.Errorf("bridge: %w", unix.EAFNOSUPPORT) }
	ts := tables(t, nft.Config{Group: 9, Without: []string{nft.LayerARP}}, noBridge)
	if err := ts.Verify(nft.LayerInet); !errors.Is(err, nft.ErrDiffers) {
		t.Errorf("verify before apply: %v", err)
	}
	must(t, ts.Apply())
	for layer, want := range map[string]error{
		nft.LayerInet: nil, nft.LayerARP: nft.ErrDiffers, nft.LayerBridge: unix.EAFNOSUPPORT, "tc": nft.ErrMissing,
	} {
		if err := ts.Verify(layer); !errors.Is(err, want) {
			t.Errorf("verify %s: %v, want %v", layer, err, want)
		}
	}
	for _, bad := range []string{"", ".", "a/b", "a b", "0123456789abcdef", "a\x00"} {
		if err := ts.SetLinks([]string{bad}); !errors.Is(err, nft.ErrLink) {
			t.Errorf("link %q: %v", bad, err)
		}
		if err := ts.Open([]string{bad}); !errors.Is(err, nft.ErrLink) {
			t.Errorf("open %q: %v", bad, err)
		}
	}
}

// strike is what root may do to a table that is not owned.
type strike struct {
	name string
	want string // of the error
	do   func(*nftables.Conn, *nftables.Table, *nftables.Chain)
}

var accept = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}

var strikes = []strike{
	{"table gone", "is gone", func(c *nftables.Conn, t *nftables.Table, _ *nftables.Chain) { c.DelTable(t) }},
	{"chain gone", "is gone", func(c *nftables.Conn, _ *nftables.Table, ch *nftables.Chain) {
		c.FlushChain(ch)
		c.DelChain(ch)
	}},
	{"all rules gone", "has 0 rules", func(c *nftables.Conn, t *nftables.Table, _ *nftables.Chain) { c.FlushTable(t) }},
	{"a rule gone", "rules, not", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		rs, _ := c.GetRules(t, ch)
		_ = c.DelRule(rs[len(rs)-1])
	}},
	{"a rule changed", "another rule", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		rs, _ := c.GetRules(t, ch)
		r := rs[len(rs)-1]
		c.ReplaceRule(&nftables.Rule{Table: t, Chain: ch, Handle: r.Handle, Exprs: accept})
	}},
	{"an accept put first", "rules, not", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		c.InsertRule(&nftables.Rule{Table: t, Chain: ch, Exprs: accept})
	}},
	{"the order changed", "another rule", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		rs, _ := c.GetRules(t, ch)
		_ = c.DelRule(rs[0])
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: rs[0].Exprs})
	}},
	{"policy changed", "another policy", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		p := nftables.ChainPolicyAccept
		c.AddChain(&nftables.Chain{Name: ch.Name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: ch.Hooknum,
			Priority: ch.Priority, Policy: &p, Device: ch.Device})
	}},
	{"a chain moved", "hooks elsewhere", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		c.FlushChain(ch)
		c.DelChain(ch)
		p := nftables.ChainPolicyDrop
		c.AddChain(&nftables.Chain{Name: ch.Name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: ch.Hooknum,
			Priority: nftables.ChainPriorityRef(7), Policy: &p, Device: ch.Device})
	}},
	{"a chain added", "was added", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		c.AddChain(&nftables.Chain{Name: "another", Table: t})
	}},
	{"a jump to another chain", "rules, not", func(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
		c.AddChain(&nftables.Chain{Name: "another", Table: t})
		c.InsertRule(&nftables.Rule{Table: t, Chain: ch, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "another"}}})
	}},
	{"a map to another chain", "rules, not", jumpByMap},
	{"dormant", "is dormant", func(c *nftables.Conn, t *nftables.Table, _ *nftables.Chain) {
		_ = nft.SetFlags(byte(t.Family), t.Name, 1) // google/nftables does not send flags
	}},
}

// jumpByMap puts in a rule that refers to a chain by a set, so that the chain cannot go before.
func jumpByMap(c *nftables.Conn, t *nftables.Table, ch *nftables.Chain) {
	c.AddChain(&nftables.Chain{Name: "another", Table: t})
	set := &nftables.Set{Table: t, Name: "m", IsMap: true, KeyType: nftables.TypeMark, DataType: nftables.TypeVerdict}
	_ = c.AddSet(set, []nftables.SetElement{{Key: []byte{0, 0, 0, 0}, VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: "another"}}})
	c.InsertRule(&nftables.Rule{Table: t, Chain: ch, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Lookup{SourceRegister: 1, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
	}})
}

// TestVerify strikes each layer in each way: Verify tells, and Apply undoes it.
func TestVerify(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	for _, s := range strikes {
		t.Run(s.name, func(t *testing.T) {
			ts := tables(t, nft.Config{Group: 9}, func(*nft.Support) {})
			must(t, ts.SetLinks([]string{"eth0"}))
			must(t, ts.Apply())
			for _, layer := range layers {
				hit(t, layer, s)
				err := ts.Verify(layer)
				if !errors.Is(err, nft.ErrDiffers) || !strings.Contains(fmt.Sprint(err), s.want) {
					t.Errorf("%s: %v, want one with %q", layer, err, s.want)
				}
				must(t, ts.Apply())
				if err := ts.Verify(layer); err != nil {
					t.Errorf("%s after apply: %v", layer, err)
				}
			}
		})
	}
}

// hit does s to the floor of a layer.
func hit(t testing.TB, layer string, s strike) {
	t.Helper()
	family := map[string]nftables.TableFamily{
		nft.LayerInet: nftables.TableFamilyINet, nft.LayerARP: nftables.TableFamilyARP,
		nft.LayerBridge: nftables.TableFamilyBridge, nft.LayerNetdev: nftables.TableFamilyNetdev,
	}[layer]
	c := new(nftables.Conn)
	chains, err := c.ListChainsOfTableFamily(family)
	must(t, err)
	i := slices.IndexFunc(chains, func(ch *nftables.Chain) bool { return ch.Table.Name == nft.Floor })
	if i < 0 {
		t.Fatalf("no floor of %s", layer)
	}
	chains[i].Table.Family = family
	if family == nftables.TableFamilyNetdev {
		chains[i].Device = "eth0"
	}
	s.do(c, chains[i].Table, chains[i])
	must(t, c.Flush())
}

// TestOwned: root cannot change what the guard owns, and nothing leaves while the floor is gone.
func TestOwned(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	ts := tables(t, nft.Config{Group: 9}, func(*nft.Support) {})
	if err := ts.Support().Owner; err != nil {
		t.Skip(err)
	}
	must(t, ts.SetLinks([]string{"eth0"}))
	must(t, ts.Apply())
	before := f.frames()
	c := new(nftables.Conn)
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyARP, nftables.TableFamilyBridge, nftables.TableFamilyNetdev} {
		owned := &nftables.Table{Name: nft.Owned, Family: family}
		c.DelTable(owned)
		if err := c.Flush(); !errors.Is(err, unix.EPERM) {
			t.Errorf("delete of an owned table: %v", err)
		}
		c.FlushTable(owned)
		if err := c.Flush(); !errors.Is(err, unix.EPERM) {
			t.Errorf("flush of an owned table: %v", err)
		}
	}
	stop := flood(t, ts.Support().Egress == nil)
	for range 20 {
		c.FlushRuleset()
		must(t, c.Flush())
	}
	nothingLeaves(t, f, true)
	stop()
	if n := f.frames() - before; n != 0 {
		t.Errorf("%d frames arrived", n)
	}
	for _, l := range layers {
		if err := ts.Verify(l); !errors.Is(err, nft.ErrDiffers) {
			t.Errorf("verify %s: %v", l, err)
		}
	}
	must(t, ts.Apply())
	if n := len(tableNames(t)); n != 8 {
		t.Errorf("%d tables after apply", n)
	}
}

// flood sends by all ways out, those that only egress chains stop left out where there are none,
// until the returned function is called, which returns how often.
// One of the ways goes on without a pause. Meanwhile no packet by the loopback link is lost.
func flood(t testing.TB, egress bool) (stop func() int64) {
	var n atomic.Int64
	var quit atomic.Bool
	var wg sync.WaitGroup
	loop := func(send func(i int)) {
		wg.Go(func() {
			for i := 0; !quit.Load(); i++ {
				send(i)
				n.Add(1)
			}
		})
	}
	udp, err := net.Dial("udp4", "10.9.1.2:9")
	must(t, err)
	loop(func(i int) {
		if w := ways[i%len(ways)]; egress || !w.raw {
			_ = w.send() // refused
		}
	})
	loop(func(int) { _, _ = udp.Write([]byte("x")) })
	wg.Go(func() {
		for !quit.Load() {
			if err := echoUDP("127.0.0.1:0"); err != nil {
				t.Errorf("loopback: %v", err)
			}
		}
	})
	return sync.OnceValue(func() int64 {
		quit.Store(true)
		wg.Wait()
		_ = udp.Close()
		return n.Load()
	})
}

// TestTakeover: a guard is killed and the next takes its tables over, again and again, while
// packets try to leave and others pass by the loopback link.
func TestTakeover(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	for i, v := range variants[:4] {
		t.Run(v.name, func(t *testing.T) {
			ts := tables(t, nft.Config{Group: 9}, v.lack)
			g := guard(i)
			start(t, g)
			before := f.frames(0x0800)
			stop := flood(t, ts.Support().Egress == nil)
			for range 3 {
				must(t, g.Process.Kill())
				_ = g.Wait() // killed
				g = guard(i)
				start(t, g)
			}
			must(t, g.Process.Kill())
			_ = g.Wait() // killed
			must(t, ts.SetLinks([]string{"eth0"}))
			must(t, ts.Apply())
			n := stop()
			if got := f.frames(0x0800) - before; got != 0 {
				t.Errorf("%d frames arrived", got)
			}
			verifyAll(t, ts)
			t.Logf("%d packets tried to leave during 4 takeovers", n)
		})
	}
}

// TestReplace: a floor that cannot be set right in place is deleted and made again, and nothing
// leaves meanwhile, though no owned table lies above it.
func TestReplace(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	ts := tables(t, nft.Config{Group: 9}, variants[3].lack)
	must(t, ts.SetLinks([]string{"eth0"}))
	must(t, ts.Apply())
	before := f.frames(0x0800)
	stop := flood(t, ts.Support().Egress == nil)
	for range 10 {
		hit(t, nft.LayerInet, strike{do: jumpByMap})
		must(t, ts.Apply())
	}
	stop()
	if got := f.frames(0x0800) - before; got != 0 {
		t.Errorf("%d frames arrived", got)
	}
	verifyAll(t, ts)
}

// TestForeign: with tables of our names in the hands of another process, the lock stands under
// other names, but does not open.
func TestForeign(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	other := tables(t, nft.Config{Group: 9}, func(*nft.Support) {})
	if err := other.Support().Owner; err != nil {
		t.Skip(err)
	}
	must(t, other.Apply())
	ts := tables(t, nft.Config{Group: 9}, func(*nft.Support) {})
	must(t, ts.SetLinks([]string{"eth0"}))
	must(t, ts.Apply())
	verifyAll(t, ts)
	if err := ts.Open([]string{"eth0"}); !errors.Is(err, nft.ErrForeign) {
		t.Errorf("open: %v", err)
	}
	must(t, other.Remove())
	must(t, ts.Open([]string{"eth0"}))
	must(t, ts.Shut())
	if n := len(tableNames(t)); n != 8 {
		t.Errorf("tables %v", tableNames(t))
	}
	must(t, ts.Remove())
}

// TestLinks: links that are renamed, plugged in, and gone.
func TestLinks(t *testing.T) {
	for _, v := range variants[:4] {
		t.Run(v.name, func(t *testing.T) {
			f := startFar(t)
			f.link("eth0", 1)
			f.link("eth1", 2)
			ts := tables(t, nft.Config{Group: 9}, v.lack)
			must(t, ts.SetLinks([]string{"eth0", "eth1", "never"}))
			must(t, ts.Apply())
			verifyNetdev(t, ts)

			before := f.frames()
			rename(t, "eth0", "x0")
			if ts.Support().EveryLink == nil {
				nothingBy(t, f, ts, "x0")
			}
			must(t, ts.SetLinks([]string{"x0", "eth1"}))
			nothingBy(t, f, ts, "x0")
			verifyNetdev(t, ts)

			// A link that takes the name lo is no loopback link.
			rename(t, "lo", "was-lo")
			rename(t, "x0", "lo")
			must(t, ts.SetLinks([]string{"lo", "was-lo", "eth1"}))
			nothingBy(t, f, ts, "lo")
			if err := sendUDP("10.9.1.2:9"); !errors.Is(err, unix.EPERM) {
				t.Errorf("by a link named lo: %v", err)
			}
			rename(t, "lo", "eth0")
			rename(t, "was-lo", "lo")
			must(t, ts.SetLinks([]string{"eth0", "eth1"}))
			loopbackPasses(t)

			gone, err := netlink.LinkByName("eth1")
			must(t, err)
			must(t, netlink.LinkDel(gone))
			verifyNetdev(t, ts)
			must(t, ts.SetLinks([]string{"eth0"}))
			verifyNetdev(t, ts)
			if n := f.frames() - before; n != 0 && ts.Support().Egress == nil {
				t.Errorf("%d frames arrived", n)
			}
		})
	}
}

func verifyNetdev(t *testing.T, ts *nft.Tables) {
	t.Helper()
	if err := ts.Verify(nft.LayerNetdev); err != nil {
		t.Errorf("verify: %v", err)
	}
}

// nothingBy sends a frame by a link, which must not arrive where the kernel can tell at egress.
func nothingBy(t *testing.T, f *far, ts *nft.Tables, link string) {
	t.Helper()
	before := f.frames(0x88b5)
	_ = sendFrame(link, frame(0x88b5)) // refused
	if n := f.frames(0x88b5) - before; n != 0 && ts.Support().Egress == nil {
		t.Errorf("%d frames left by %s", n, link)
	}
}

// rename takes the link down: older kernels want that.
func rename(t testing.TB, from, to string) {
	t.Helper()
	l, err := netlink.LinkByName(from)
	must(t, err)
	must(t, netlink.LinkSetDown(l))
	must(t, netlink.LinkSetName(l, to))
	must(t, netlink.LinkSetUp(l))
}

// TestHotplug: where the kernel holds for links to come, a link that appears sends nothing, not
// even with nobody there to do anything about it. Without the lock, its kernel frames arrive.
func TestHotplug(t *testing.T) {
	f := startFar(t)
	f.bare("eth0")
	must(t, setUp("eth0"))
	waitFor(t, "a frame of the kernel while unlocked", func() bool { return f.frames() > 0 })
	ts := tables(t, nft.Config{Group: 9}, func(*nft.Support) {})
	if err := ts.Support().EveryLink; err != nil {
		t.Skip(err)
	}
	must(t, ts.Apply())
	before := f.frames()
	for n := range 40 {
		name := fmt.Sprintf("hot%d", n)
		f.bare(name)
		must(t, setUp(name))
		if err := sendFrame(name, frame(0x88b5)); !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("a frame by %s: %v", name, err)
		}
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkDel(l))
	}
	if n := f.frames() - before; n != 0 {
		t.Errorf("%d frames arrived", n)
	}
}

// TestOpen: in maintenance the named link works, the other does not.
func TestOpen(t *testing.T) {
	f := startFar(t)
	f.link("eth0", 1)
	f.link("eth1", 2)
	for _, v := range variants[:4] {
		t.Run(v.name, func(t *testing.T) {
			ts := tables(t, nft.Config{Group: 9}, v.lack)
			must(t, ts.SetLinks([]string{"eth0", "eth1"}))
			must(t, ts.Apply())
			must(t, ts.Open([]string{"eth0"}))
			verifyAll(t, ts)
			for _, w := range ways {
				before := f.frames(w.eth)
				waitFor(t, w.name+" by the open link", func() bool { return w.send() == nil && f.frames(w.eth) > before })
			}
			for _, to := range []string{"10.9.2.2:9", "[fd09:2::2]:9"} {
				if err := sendUDP(to); !errors.Is(err, unix.EPERM) {
					t.Errorf("UDP to %s: %v", to, err)
				}
			}
			nothingBy(t, f, ts, "eth1")
			must(t, ts.SetLinks([]string{"eth1", "eth0", "never"}))
			must(t, sendUDP("10.9.1.2:9"))
			must(t, ts.Shut())
			nothingLeaves(t, f, ts.Support().Egress == nil)
			loopbackPasses(t)
		})
	}
}

func verifyAll(t *testing.T, ts *nft.Tables) {
	t.Helper()
	for _, l := range layers {
		if err := ts.Verify(l); err != nil {
			t.Errorf("verify %s: %v", l, err)
		}
	}
}
