package nft

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names of the tables. A table of that name which belongs to another process cannot be
// changed, so then a number is added.
const (
	floorName = "holdfast_floor"
	ownedName = "holdfast_lock"
)

// Flags of tables (linux/netfilter/nf_tables.h).
const (
	flagDormant = 0x1
	flagOwner   = 0x2
	flagPersist = 0x4
)

// Policies of chains: verdicts (linux/netfilter.h).
const (
	policyDrop   = 0
	policyAccept = 1
)

// loopback is the index of lo in every network namespace (LOOPBACK_IFINDEX).
const loopback = 1

// A chain runs before or after those of all others at its hook.
const (
	first = math.MinInt32
	last  = math.MaxInt32
)

// What a report of a dropped packet costs at most: reports a second of each chain, and bytes
// of the packet in a report. Headers fit, with some extension headers of IPv6.
const (
	logsPerSecond = 64
	logBytes      = 192
)

// side tells by which link of a packet a chain judges it.
type side int

const (
	neither side = iota // nothing passes
	in
	out
)

// hook is a place in a family where packets pass.
type hook struct {
	name string
	num  uint32
	prio int32
	side side
}

var inetHooks = []hook{
	{"prerouting", unix.NF_INET_PRE_ROUTING, first, in},
	{"input", unix.NF_INET_LOCAL_IN, first, in},
	{"forward", unix.NF_INET_FORWARD, first, neither},
	{"output", unix.NF_INET_LOCAL_OUT, first, out},
	{"postrouting", unix.NF_INET_POST_ROUTING, last, out},
}

var arpHooks = []hook{{"input", 0, first, in}, {"output", 1, first, out}} // NF_ARP_IN, NF_ARP_OUT

// bridgeHooks let nothing pass, in maintenance neither: the loopback link is in no bridge, and
// tickets name links.
var bridgeHooks = []hook{
	{"prerouting", 0, first, neither}, // NF_BR_PRE_ROUTING and so on
	{"input", 1, first, neither},
	{"forward", 2, first, neither},
	{"output", 3, first, neither},
	{"postrouting", 4, last, neither},
}

var (
	ingressHook = hook{"ingress", unix.NF_NETDEV_INGRESS, first, in}
	egressHook  = hook{"egress", 1, first, out} // NF_NETDEV_EGRESS
)

// table is what a table in the kernel should be, or what one is.
type table struct {
	family   uint8
	name     string
	flags    uint32
	owner    uint32 // port of the socket that owns it
	chains   []chain
	counters map[string]uint64 // packets by name of a counter object
}

// chain belongs to a table. A chain of every link has the empty prefix as device.
type chain struct {
	name     string
	base     bool
	hook     uint32
	prio     int32
	policy   uint32
	flags    uint32
	devices  []string
	prefixes []string
	rules    []rule
}

// rule is a rule's expressions: as sent, and in the canonical form in which rules are compared.
type rule struct {
	wire  []byte
	canon string
	extra string // what the kernel has of them that this package does not know
}

func (t *table) chain(name string) *chain {
	i := slices.IndexFunc(t.chains, func(c chain) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &t.chains[i]
}

// sameHook: c and d see the same packets at the same time.
func (c *chain) sameHook(d *chain) bool {
	return c.base == d.base && c.hook == d.hook && c.prio == d.prio && c.flags == d.flags &&
		slices.Equal(c.devices, d.devices) && slices.Equal(c.prefixes, d.prefixes)
}

func (c *chain) sameRules(d *chain) bool {
	return slices.EqualFunc(c.rules, d.rules, func(a, b rule) bool { return a.canon == b.canon })
}

// ruleset is what the tables are made of.
type ruleset struct {
	group   uint16
	support Support
	without []string
	links   []string // with netdev chains of their own
	open    []string // let pass for maintenance
}

// layerInfo tells which family a layer is, and why the kernel does not have it.
type layerInfo struct {
	name   string
	family uint8
	lacks  func(Support) error
}

// layers in the order in which they are made.
var layers = []layerInfo{
	{LayerInet, unix.NFPROTO_INET, func(s Support) error { return s.Inet }},
	{LayerARP, unix.NFPROTO_ARP, func(s Support) error { return s.ARP }},
	{LayerBridge, unix.NFPROTO_BRIDGE, func(s Support) error { return s.Bridge }},
	{LayerNetdev, unix.NFPROTO_NETDEV, func(s Support) error { return s.Ingress }},
}

// active: the layer is made.
func (r *ruleset) active(l layerInfo) bool {
	return l.lacks(r.support) == nil && !slices.Contains(r.without, l.name)
}

// table makes the wanted floor or owned table of a family.
func (r *ruleset) table(l layerInfo, name string, owned bool) table {
	t := table{family: l.family, name: name}
	if r.support.Count == nil {
		t.counters = map[string]uint64{l.name: 0}
	}
	if owned {
		t.flags = flagOwner
		if r.support.Persist == nil {
			t.flags |= flagPersist
		}
	}
	switch l.name {
	case LayerInet:
		t.chains = r.chains(l.name, inetHooks, true)
	case LayerARP:
		t.chains = r.chains(l.name, arpHooks, true)
	case LayerBridge:
		t.chains = r.chains(l.name, bridgeHooks, false)
	case LayerNetdev:
		t.chains = r.netdevChains(owned)
	}
	return t
}

func (r *ruleset) chains(layer string, hooks []hook, opens bool) []chain {
	var open []string
	if opens {
		open = r.open
	}
	var cs []chain
	for _, h := range hooks {
		cs = append(cs, r.chain(layer, h, open))
	}
	return cs
}

func (r *ruleset) netdevChains(owned bool) []chain {
	hooks := []hook{ingressHook}
	if r.support.Egress == nil {
		hooks = append(hooks, egressHook)
	}
	var cs []chain
	if r.support.EveryLink == nil && (owned || r.support.Owner != nil) {
		for _, h := range hooks {
			c := r.chain(LayerNetdev, h, r.open)
			c.prefixes = []string{""}
			cs = append(cs, c)
		}
		return cs
	}
	for _, link := range r.links {
		if slices.Contains(r.open, link) {
			continue
		}
		for _, h := range hooks {
			c := r.chain(LayerNetdev, h, nil)
			c.name += "_" + link
			c.devices = []string{link}
			cs = append(cs, c)
		}
	}
	return cs
}

func (r *ruleset) chain(layer string, h hook, open []string) chain {
	c := chain{name: h.name, base: true, hook: h.num, prio: h.prio, policy: policyDrop}
	if h.side != neither {
		c.rules = append(c.rules, passIndex(h.side, loopback))
		for _, link := range open {
			c.rules = append(c.rules, passName(h.side, link))
		}
	}
	if r.support.Log == nil {
		c.rules = append(c.rules, makeRule(limit(), logTo(r.group, Prefix(layer, h.name))))
	}
	if r.support.Count == nil {
		c.rules = append(c.rules, makeRule(count(layer), &expr.Verdict{Kind: expr.VerdictDrop}))
	} else {
		c.rules = append(c.rules, makeRule(&expr.Verdict{Kind: expr.VerdictDrop}))
	}
	return c
}

// Prefix is what reports of packets (NFLOG) begin with that a chain of this package dropped.
func Prefix(layer, hook string) string { return "holdfast " + layer + " " + hook }

func passIndex(s side, index uint32) rule {
	key := expr.MetaKeyIIF
	if s == out {
		key = expr.MetaKeyOIF
	}
	return passMeta(key, binary.NativeEndian.AppendUint32(nil, index))
}

func passName(s side, link string) rule {
	key := expr.MetaKeyIIFNAME
	if s == out {
		key = expr.MetaKeyOIFNAME
	}
	// The kernel compares names as 16 bytes, so a longer name of the same beginning differs.
	return passMeta(key, append([]byte(link), make([]byte, unix.IFNAMSIZ-len(link))...))
}

func passMeta(key expr.MetaKey, value []byte) rule {
	return makeRule(
		&expr.Meta{Key: key, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: value},
		&expr.Verdict{Kind: expr.VerdictAccept})
}

func limit() expr.Any {
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: logsPerSecond, Unit: expr.LimitTimeSecond, Burst: logsPerSecond}
}

func logTo(group uint16, prefix string) expr.Any {
	return &expr.Log{
		Key:     1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD,
		Group:   group,
		Snaplen: logBytes,
		// A report for each packet at once.
		QThreshold: 1,
		Data:       []byte(prefix),
	}
}

func count(layer string) expr.Any {
	return &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: layer + "\x00"}
}
