package nft

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Verify compares the layer in the kernel with what Apply and SetLinks made. The error says in
// one clause what differs (ErrDiffers), or that the kernel has no such layer (ErrMissing). A
// chain of a link that is gone is no difference.
func (t *Tables) Verify(layer string) error {
	i := slices.IndexFunc(layers, func(l layerInfo) bool { return l.name == layer })
	if i < 0 {
		return fmt.Errorf("%w: layer %s", ErrMissing, layer)
	}
	l := layers[i]
	if err := l.lacks(t.set.support); err != nil {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.applied || !t.set.active(l) {
		return fmt.Errorf("%w: %s was not applied", ErrDiffers, layer)
	}
	return t.check(l)
}

// check compares only what may have changed: each change of rules starts a generation, but a
// link that goes takes its chains along without one.
func (t *Tables) check(l layerInfo) error {
	now, err := t.k.generation()
	if err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	if t.checked[l.name] == now && l.name != LayerNetdev {
		return nil
	}
	delete(t.checked, l.name)
	extra, err := t.diff(l)
	if err == nil && extra != t.extra[l.name] {
		err = fmt.Errorf("%w: attributes of rules of %s changed", ErrDiffers, l.name)
	}
	if err == nil {
		t.checked[l.name] = now
	}
	return err
}

// diff compares a layer in the kernel with what is wanted, and returns what the kernel shows
// beside it.
func (t *Tables) diff(l layerInfo) (extra string, err error) {
	names := t.names[l.family]
	if names[0] == "" || names[1] == "" && t.set.support.Owner == nil {
		return "", fmt.Errorf("%w: the kernel refused tables of %s", ErrDiffers, l.name)
	}
	have, err := readFamily(t.k, l.family)
	if err != nil {
		return "", fmt.Errorf("%s: %w", l.name, err)
	}
	for _, want := range t.set.tables(l, names, t.k.port()) {
		i := slices.IndexFunc(have, func(h table) bool { return h.name == want.name })
		if i < 0 {
			return "", fmt.Errorf("%w: %v is gone", ErrDiffers, &want)
		}
		if s := want.differs(&have[i]); s != "" {
			return "", fmt.Errorf("%w: %s", ErrDiffers, s)
		}
		extra += have[i].extra()
	}
	return extra, nil
}

// differs tells in one clause what have has that t has not, or the other way round.
func (t *table) differs(have *table) string {
	switch {
	case have.flags&^t.flags&flagDormant != 0:
		return fmt.Sprintf("%v is dormant", t)
	case have.foreign(t.owner):
		return fmt.Sprintf("%v belongs to another process", t)
	case have.flags != t.flags:
		return fmt.Sprintf("%v has flags %#x, not %#x", t, have.flags, t.flags)
	}
	for i := range t.chains {
		c := &t.chains[i]
		if s := c.differs(have.chain(c.name)); s != "" && !c.idle() {
			return t.in(c) + " " + s
		}
	}
	for i := range have.chains {
		if c := &have.chains[i]; t.chain(c.name) == nil {
			return t.in(c) + " was added"
		}
	}
	return ""
}

func (c *chain) differs(have *chain) string {
	switch {
	case have == nil:
		return "is gone"
	case !c.sameHook(have):
		return "hooks elsewhere"
	case c.policy != have.policy:
		return "has another policy"
	case len(c.rules) != len(have.rules):
		return fmt.Sprintf("has %d rules, not %d", len(have.rules), len(c.rules))
	case !c.sameRules(have):
		return "has another rule"
	}
	return ""
}

// idle: the link of the chain is gone, and the chain with it on most kernels.
func (c *chain) idle() bool { return len(c.devices) > 0 && !linkExists(c.devices[0]) }

// extra is what the kernel shows of the rules that this package does not know.
func (t *table) extra() string {
	var b strings.Builder
	for _, c := range t.chains {
		for _, r := range c.rules {
			b.WriteString(r.extra)
		}
	}
	return b.String()
}

// Counters returns the packets that each layer dropped since the first Apply. Where a table had
// to be deleted and made again, those that it dropped in the last moments before are lost.
func (t *Tables) Counters() (map[string]uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range layers {
		if !t.applied || !t.set.active(l) || t.set.support.Count != nil {
			continue
		}
		have, err := readTables(t.k, l.family)
		if err == nil {
			err = readCounters(t.k, l.family, have)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		t.tally(l, have)
	}
	return maps.Clone(t.counts), nil
}

// tally adds what the counters of a layer's tables grew since they were last seen. What they had
// before the first Apply is not counted.
func (t *Tables) tally(l layerInfo, have []table) {
	for i := range have {
		now, ok := have[i].counters[l.name]
		if !ok {
			continue
		}
		key := have[i].String()
		switch was := t.seen[key]; {
		case !t.applied:
		case now >= was:
			t.counts[l.name] += now - was
		default: // a new counter of the same name
			t.counts[l.name] += now
		}
		t.seen[key] = now
	}
}
