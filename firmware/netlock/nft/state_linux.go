package nft

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes that golang.org/x/sys lacks (linux/netfilter/nf_tables.h).
const (
	attrTableOwner   = 7
	attrHookDevs     = 4
	attrDeviceName   = 1
	attrDevicePrefix = 2
	attrChainFlags   = 10
	chainFlagBase    = 1
)

// errMoving: the tables changed again and again while they were read.
var errMoving = errors.New("nf_tables: the rules do not stand still")

// maxReads bounds how often tables that change meanwhile are read again.
const maxReads = 8

// readFamily returns the tables of a family whose names begin as ours.
func readFamily(k kernel, family uint8) ([]table, error) {
	for range maxReads {
		before, err := k.generation()
		if err != nil {
			return nil, err
		}
		ts, err := readOnce(k, family)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		after, errAfter := k.generation()
		if errAfter != nil {
			return nil, errAfter
		}
		if err == nil && before == after {
			return ts, nil
		}
	}
	return nil, errMoving
}

func readOnce(k kernel, family uint8) ([]table, error) {
	ts, err := readTables(k, family)
	if err != nil || len(ts) == 0 {
		return ts, err
	}
	if err := readChains(k, family, ts); err != nil {
		return nil, err
	}
	for i := range ts {
		if err := readRules(k, &ts[i]); err != nil {
			return nil, err
		}
	}
	return ts, readCounters(k, family, ts)
}

func ours(name string) bool {
	return strings.HasPrefix(name, floorName) || strings.HasPrefix(name, ownedName)
}

func readTables(k kernel, family uint8) ([]table, error) {
	answer, err := k.dump(unix.NFT_MSG_GETTABLE, family, nil)
	if err != nil {
		return nil, err
	}
	var ts []table
	for _, m := range answer {
		t, err := decodeTable(m)
		if err != nil {
			return nil, err
		}
		if t.family == family && ours(t.name) {
			ts = append(ts, t)
		}
	}
	return ts, nil
}

func readChains(k kernel, family uint8, ts []table) error {
	answer, err := k.dump(unix.NFT_MSG_GETCHAIN, family, nil)
	if err != nil {
		return err
	}
	for _, m := range answer {
		of, c, err := decodeChain(m)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(ts, func(t table) bool { return t.name == of && m.Data[0] == family }); i >= 0 {
			ts[i].chains = append(ts[i].chains, c)
		}
	}
	return nil
}

func readRules(k kernel, t *table) error {
	name := attrs(text(unix.NFTA_RULE_TABLE, t.name))
	answer, err := k.dump(unix.NFT_MSG_GETRULE, t.family, name)
	if err != nil {
		return err
	}
	for _, m := range answer {
		of, in, r, err := decodeRule(m)
		if err != nil {
			return err
		}
		if c := t.chain(in); c != nil && of == t.name && m.Data[0] == t.family {
			c.rules = append(c.rules, r)
		}
	}
	return nil
}

func readCounters(k kernel, family uint8, ts []table) error {
	answer, err := k.dump(unix.NFT_MSG_GETOBJ, family, nil)
	if err != nil {
		return err
	}
	for _, m := range answer {
		of, name, packets, err := decodeCounter(m)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(ts, func(t table) bool { return t.name == of && m.Data[0] == family })
		if name == "" || i < 0 {
			continue
		}
		if ts[i].counters == nil {
			ts[i].counters = make(map[string]uint64)
		}
		ts[i].counters[name] = packets
	}
	return nil
}

func decodeTable(m netlink.Message) (table, error) {
	var t table
	err := eachAttr(m, func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.NFTA_TABLE_NAME:
			t.name = a.String()
		case unix.NFTA_TABLE_FLAGS:
			t.flags = a.Uint32()
		case attrTableOwner:
			t.owner = a.Uint32()
		}
	})
	if err != nil {
		return t, fmt.Errorf("table: %w", err)
	}
	t.family = m.Data[0]
	return t, nil
}

// decodeChain returns the chain and the name of its table.
func decodeChain(m netlink.Message) (of string, c chain, err error) {
	err = eachAttr(m, func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.NFTA_CHAIN_TABLE:
			of = a.String()
		case unix.NFTA_CHAIN_NAME:
			c.name = a.String()
		case unix.NFTA_CHAIN_POLICY:
			c.policy = a.Uint32()
		case attrChainFlags:
			c.flags = a.Uint32() &^ chainFlagBase
		case unix.NFTA_CHAIN_HOOK:
			c.base = true
			a.Do(c.decodeHook)
		}
	})
	if err != nil {
		return "", c, fmt.Errorf("chain: %w", err)
	}
	return of, c, nil
}

func (c *chain) decodeHook(p []byte) error {
	var devs []byte
	err := attributes(p, func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.NFTA_HOOK_HOOKNUM:
			c.hook = a.Uint32()
		case unix.NFTA_HOOK_PRIORITY:
			c.prio = int32(a.Uint32())
		case unix.NFTA_HOOK_DEV:
			c.devices = []string{a.String()}
		case attrHookDevs:
			devs = a.Bytes()
		}
	})
	if err != nil || devs == nil {
		return err
	}
	c.devices, c.prefixes = nil, nil // a chain of one link has it in both forms
	return attributes(devs, func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case attrDeviceName:
			c.devices = append(c.devices, a.String())
		case attrDevicePrefix:
			c.prefixes = append(c.prefixes, a.String())
		}
	})
}

// decodeRule returns the rule and the names of its table and chain.
func decodeRule(m netlink.Message) (of, in string, r rule, err error) {
	err = eachAttr(m, func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.NFTA_RULE_TABLE:
			of = a.String()
		case unix.NFTA_RULE_CHAIN:
			in = a.String()
		case unix.NFTA_RULE_EXPRESSIONS:
			a.Do(func(p []byte) (err error) {
				r.canon, r.extra, err = canonical(p)
				return err
			})
		}
	})
	if err != nil {
		return "", "", r, fmt.Errorf("rule: %w", err)
	}
	return of, in, r, nil
}

// decodeCounter returns an empty name for an object that is no counter.
func decodeCounter(m netlink.Message) (of, name string, packets uint64, err error) {
	var kind uint32
	err = eachAttr(m, func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.NFTA_OBJ_TABLE:
			of = a.String()
		case unix.NFTA_OBJ_NAME:
			name = a.String()
		case unix.NFTA_OBJ_TYPE:
			kind = a.Uint32()
		case unix.NFTA_OBJ_DATA:
			a.Do(func(p []byte) error {
				return attributes(p, func(a *netlink.AttributeDecoder) {
					if kind == unix.NFT_OBJECT_COUNTER && a.Type() == unix.NFTA_COUNTER_PACKETS {
						packets = a.Uint64()
					}
				})
			})
		}
	})
	if err != nil {
		return "", "", 0, fmt.Errorf("counter: %w", err)
	}
	if kind != unix.NFT_OBJECT_COUNTER {
		return of, "", 0, nil
	}
	return of, name, packets, nil
}

// Attributes that hold attributes, by expression and path. A kernel may mark them or not.
var nested = map[string]bool{"cmp/3": true, "immediate/2": true, "immediate/2/2": true}

// lastKnown is the last attribute that this package knows of the expressions it uses. A later
// kernel may show more of them, which then only has to stay as it was.
var lastKnown = map[string]uint16{"cmp": 3, "immediate": 2, "limit": 6, "log": 6, "meta": 3, "objref": 5}

// canonical brings the expressions of a rule into one form, whoever encoded them: attributes
// sorted, their marks left out. It returns what the package knows of and what not.
func canonical(p []byte) (known, extra string, err error) {
	var k, e strings.Builder
	err = attributes(p, func(a *netlink.AttributeDecoder) {
		a.Do(func(p []byte) error {
			inside, outside, err := canonicalExpr(p)
			k.WriteString(inside + "; ")
			e.WriteString(outside)
			return err
		})
	})
	return k.String(), e.String(), err
}

func canonicalExpr(p []byte) (known, extra string, err error) {
	var name string
	var data []byte
	err = attributes(p, func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.NFTA_EXPR_NAME:
			name = a.String()
		case unix.NFTA_EXPR_DATA:
			data = a.Bytes()
		}
	})
	if err != nil {
		return "", "", err
	}
	var lines, beyond []string
	err = flatten(name, data, func(path string, kind uint16, value []byte) {
		line := fmt.Sprintf("%s=%x", path, value)
		if most, ok := lastKnown[name]; ok && kind > most {
			beyond = append(beyond, line)
			return
		}
		lines = append(lines, line)
	})
	slices.Sort(lines)
	slices.Sort(beyond)
	return name + " " + strings.Join(lines, " "), strings.Join(beyond, " "), err
}

// flatten calls f for each value; kind is the outermost attribute that it lies in.
func flatten(path string, p []byte, f func(path string, kind uint16, value []byte)) error {
	var inner error
	err := attributes(p, func(a *netlink.AttributeDecoder) {
		at := path + "/" + strconv.Itoa(int(a.Type()))
		if !nested[at] {
			f(at, a.Type(), a.Bytes())
			return
		}
		kind := a.Type()
		inner = errors.Join(inner, flatten(at, a.Bytes(), func(path string, _ uint16, value []byte) { f(path, kind, value) }))
	})
	return errors.Join(err, inner)
}

// makeRule encodes expressions, which are this package's own.
func makeRule(exprs ...expr.Any) rule {
	var wire []byte
	for _, e := range exprs {
		p, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			panic("nft: internal error: " + err.Error())
		}
		wire = append(wire, attrs(nest(unix.NFTA_LIST_ELEM, p))...)
	}
	known, _, err := canonical(wire)
	if err != nil {
		panic("nft: internal error: " + err.Error())
	}
	return rule{wire: wire, canon: known}
}
