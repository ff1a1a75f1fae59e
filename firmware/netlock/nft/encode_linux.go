package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// familyNames as nft(8) has them.
var familyNames = map[uint8]string{
	unix.NFPROTO_INET:   "inet",
	unix.NFPROTO_ARP:    "arp",
	unix.NFPROTO_BRIDGE: "bridge",
	unix.NFPROTO_NETDEV: "netdev",
}

func (t *table) String() string { return "table " + familyNames[t.family] + " " + t.name }

func (t *table) in(c *chain) string { return fmt.Sprintf("chain %s of %v", c.name, t) }

func (t *table) message(kind uint16, flags netlink.HeaderFlags, what string, as ...netlink.Attribute) message {
	return message{kind: kind, flags: flags, family: t.family, attrs: attrs(as...), what: what}
}

// make returns the requests that turn have into t; without have, t is made anew. What is right
// already is left alone, so that nothing passes and nothing of loopback is lost meanwhile.
func (t *table) make(have *table) []message {
	if have == nil {
		have = new(table)
	}
	var msgs []message
	if have.name == "" || have.flags != t.flags || t.flags&flagOwner != 0 && have.owner != t.owner {
		msgs = append(msgs, t.newTable())
	}
	msgs = append(msgs, t.clear(have)...)
	msgs = append(msgs, t.newCounter(have)...)
	for i := range t.chains {
		c := &t.chains[i]
		msgs = append(msgs, t.makeChain(c, have.chain(c.name))...)
	}
	return msgs
}

// clear takes rules away that are not t's, and then the chains that t has not, or elsewhere:
// a rule may refer to a chain.
func (t *table) clear(have *table) (msgs []message) {
	var chains []message
	for i := range have.chains {
		c := &have.chains[i]
		want := t.chain(c.name)
		alien := want == nil || !want.sameHook(c)
		if alien || !want.sameRules(c) {
			msgs = append(msgs, t.message(unix.NFT_MSG_DELRULE, 0, t.in(c),
				text(unix.NFTA_RULE_TABLE, t.name), text(unix.NFTA_RULE_CHAIN, c.name)))
		}
		if alien {
			chains = append(chains, t.message(unix.NFT_MSG_DELCHAIN, 0, t.in(c),
				text(unix.NFTA_CHAIN_TABLE, t.name), text(unix.NFTA_CHAIN_NAME, c.name)))
		}
	}
	return append(msgs, chains...)
}

// makeChain makes the chain with rules first and its policy after them: the kernel puts the
// policy of a new chain in force at once, and its rules with the rest of the batch.
func (t *table) makeChain(c, have *chain) (msgs []message) {
	fresh := have == nil || !c.sameHook(have)
	if fresh {
		msgs = append(msgs, t.newChain(c))
	}
	if fresh || !c.sameRules(have) {
		msgs = append(msgs, t.newRules(c)...)
	}
	if fresh || have.policy != c.policy {
		msgs = append(msgs, t.message(unix.NFT_MSG_NEWCHAIN, 0, "policy of "+t.in(c),
			text(unix.NFTA_CHAIN_TABLE, t.name), text(unix.NFTA_CHAIN_NAME, c.name), number(unix.NFTA_CHAIN_POLICY, c.policy)))
	}
	if len(c.devices) > 0 {
		for i := range msgs {
			msgs[i].link = c.devices[0]
		}
	}
	return msgs
}

func (t *table) newRules(c *chain) (msgs []message) {
	for _, r := range c.rules {
		msgs = append(msgs, t.message(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, "rule in "+t.in(c),
			text(unix.NFTA_RULE_TABLE, t.name), text(unix.NFTA_RULE_CHAIN, c.name), nest(unix.NFTA_RULE_EXPRESSIONS, r.wire)))
	}
	return msgs
}

func (t *table) newTable() message {
	return t.message(unix.NFT_MSG_NEWTABLE, netlink.Create, t.String(),
		text(unix.NFTA_TABLE_NAME, t.name), number(unix.NFTA_TABLE_FLAGS, t.flags))
}

func (t *table) remove() message {
	return t.message(unix.NFT_MSG_DELTABLE, 0, t.String(), text(unix.NFTA_TABLE_NAME, t.name))
}

// newCounter makes the object in which the rules of a table count. It outlives the rules.
func (t *table) newCounter(have *table) []message {
	for name := range t.counters {
		if _, ok := have.counters[name]; !ok {
			return []message{t.message(unix.NFT_MSG_NEWOBJ, netlink.Create, "counter of "+t.String(),
				text(unix.NFTA_OBJ_TABLE, t.name), text(unix.NFTA_OBJ_NAME, name),
				number(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER), nest(unix.NFTA_OBJ_DATA, nil))}
		}
	}
	return nil
}

func (t *table) newChain(c *chain) message {
	hook := []netlink.Attribute{
		number(unix.NFTA_HOOK_HOOKNUM, c.hook),
		number(unix.NFTA_HOOK_PRIORITY, uint32(c.prio)),
	}
	switch {
	case len(c.prefixes) > 0:
		hook = append(hook, nest(attrHookDevs, attrs(text(attrDevicePrefix, c.prefixes[0]))))
	case len(c.devices) > 0:
		hook = append(hook, text(unix.NFTA_HOOK_DEV, c.devices[0]))
	}
	return t.message(unix.NFT_MSG_NEWCHAIN, netlink.Create, t.in(c),
		text(unix.NFTA_CHAIN_TABLE, t.name), text(unix.NFTA_CHAIN_NAME, c.name),
		text(unix.NFTA_CHAIN_TYPE, "filter"), nest(unix.NFTA_CHAIN_HOOK, attrs(hook...)),
		number(unix.NFTA_CHAIN_POLICY, policyAccept))
}

func text(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

func number(kind uint16, n uint32) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint32(nil, n)}
}

func nest(kind uint16, p []byte) netlink.Attribute {
	return netlink.Attribute{Type: kind | unix.NLA_F_NESTED, Data: p}
}

// attrs encodes attributes, which are far below the 64 KiB that their length can tell.
func attrs(as ...netlink.Attribute) []byte {
	p, err := netlink.MarshalAttributes(as)
	if err != nil {
		panic("nft: internal error: " + err.Error())
	}
	return p
}
