package nft

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Support tells what the kernel has: nil, or why not. The errors wrap the kernel's
// (errors.Is with unix.EOPNOTSUPP and so on).
type Support struct {
	Inet, ARP, Bridge error // families, at all their hooks
	Ingress, Egress   error // family netdev at these hooks; ingress is the hook of inet ingress too
	EveryLink         error // netdev chains of all links there are and come, Linux 6.17
	Owner, Persist    error // flags of tables
	Log, Count        error // reports (with a rate limit) and counters: without them a drop is a drop
}

// errNone: not one family of nf_tables works.
var errNone = errors.New("the kernel has none of the families of nf_tables")

// Detect tries all of it on a table of a throw-away name which is gone when each try ends: a
// try makes and deletes it in one batch.
func Detect() Support {
	k, err := dial()
	if err != nil {
		return Support{err, err, err, err, err, err, err, err, err, err}
	}
	defer k.Close()
	return detect(k)
}

func detect(k kernel) Support {
	var s Support
	s.Inet = try(k, probe(unix.NFPROTO_INET, inetHooks, ""))
	s.ARP = try(k, probe(unix.NFPROTO_ARP, arpHooks, ""))
	s.Bridge = try(k, probe(unix.NFPROTO_BRIDGE, bridgeHooks, ""))
	lo := loopbackName()
	s.Ingress = try(k, probe(unix.NFPROTO_NETDEV, []hook{ingressHook}, lo))
	s.Egress = try(k, probe(unix.NFPROTO_NETDEV, []hook{egressHook}, lo))
	every := probe(unix.NFPROTO_NETDEV, []hook{ingressHook}, "")
	every.chains[0].prefixes = []string{""}
	s.EveryLink = try(k, every)
	s.Owner = try(k, flagged(k, flagOwner))
	s.Persist = try(k, flagged(k, flagOwner|flagPersist))
	s.Log = try(k, using(s, limit(), logTo(0, "holdfast")))
	counted := using(s, count("probe"))
	counted.counters = map[string]uint64{"probe": 0}
	s.Count = try(k, counted)
	return s
}

// probe is a table with a chain at each of hooks that lets all pass. It uses no more of the
// kernel than the real one: meta of the family bridge is in a module of its own.
func probe(family uint8, hooks []hook, device string) table {
	t := table{family: family, name: "holdfast_probe_" + rand.Text()}
	for _, h := range hooks {
		c := chain{name: h.name, base: true, hook: h.num, prio: h.prio, policy: policyAccept}
		if h.side != neither {
			c.rules = append(c.rules, passIndex(h.side, loopback))
		}
		if device != "" {
			c.devices = []string{device}
		}
		t.chains = append(t.chains, c)
	}
	return t
}

// loopbackName: root may have given the loopback link another name.
func loopbackName() string {
	l, err := net.InterfaceByIndex(loopback)
	if err != nil {
		return "lo"
	}
	return l.Name
}

func flagged(k kernel, flags uint32) table {
	return table{family: unix.NFPROTO_INET, name: "holdfast_probe_" + rand.Text(), flags: flags, owner: k.port()}
}

// using is a table of a family that the kernel has, with a rule of exprs.
func using(s Support, exprs ...expr.Any) table {
	t := probe(unix.NFPROTO_INET, inetHooks[:1], "")
	switch {
	case s.Inet == nil:
	case s.ARP == nil:
		t = probe(unix.NFPROTO_ARP, arpHooks[:1], "")
	case s.Bridge == nil:
		t = probe(unix.NFPROTO_BRIDGE, bridgeHooks[:1], "")
	case s.Ingress == nil:
		t = probe(unix.NFPROTO_NETDEV, []hook{ingressHook}, loopbackName())
	}
	t.chains[0].rules = append(t.chains[0].rules, makeRule(exprs...))
	return t
}

func try(k kernel, t table) error {
	err := k.batch(append(t.make(nil), t.remove()))
	var refused *batchError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused): // its text has the throw-away name
		err = refused.errno
	}
	return fmt.Errorf("nf_tables %s: %w", familyNames[t.family], err)
}
