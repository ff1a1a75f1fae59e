package nft

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxTries bounds how often Apply begins again because somebody changed tables or a link went.
const maxTries = 8

// change is what is to be done to one family.
type change struct {
	want  []table // floor and owned table
	have  []table // all tables of ours in the kernel
	names [2]string
}

// apply makes the named layers, or all, and verifies them.
func (t *Tables) apply(only ...string) error {
	clear(t.checked)
	err := t.insist(t.set, only)
	if err != nil && len(only) == 0 {
		err = t.salvage()
	}
	t.applied = true
	if err != nil {
		return err
	}
	for _, l := range layers {
		if !t.set.active(l) || skip(only, l.name) {
			continue
		}
		extra, err := t.diff(l)
		if err != nil {
			return err
		}
		t.extra[l.name] = extra
	}
	return nil
}

func skip(only []string, layer string) bool { return len(only) > 0 && !slices.Contains(only, layer) }

// salvage makes what can be made, where all at once cannot: layer by layer, and if need be the
// floor without the owned table.
func (t *Tables) salvage() error {
	var errs []error
	for _, l := range layers {
		err := t.insist(t.set, []string{l.name})
		if err == nil {
			continue
		}
		errs = append(errs, err)
		bare := t.set
		bare.support.Owner = err
		if err := t.insist(bare, []string{l.name}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// insist tries until the kernel takes the rules: others may change tables, and links go.
func (t *Tables) insist(set ruleset, only []string) error {
	replace := false
	var err error
	for range maxTries {
		if err = t.once(set, replace, only); err == nil {
			return nil
		}
		var refused *batchError
		switch {
		case !errors.As(err, &refused), refused.msg.family == unix.AF_UNSPEC:
			return err // not about one of the tables
		case refused.msg.link != "" && !linkExists(refused.msg.link):
			set.links = slices.DeleteFunc(slices.Clone(set.links), func(l string) bool { return l == refused.msg.link })
		default:
			// It cannot be changed in place: deleted and made again, still in one batch.
			replace = true
		}
	}
	return err
}

// once reads what there is and sends what makes it as set wants it.
func (t *Tables) once(set ruleset, replace bool, only []string) error {
	var msgs []message
	names := make(map[uint8][2]string)
	for _, l := range layers {
		if l.lacks(set.support) != nil {
			continue
		}
		if skip(only, l.name) {
			names[l.family] = t.names[l.family]
			continue
		}
		have, err := readFamily(t.k, l.family)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		t.tally(l, have)
		c := set.change(l, have, t.k.port())
		names[l.family] = c.names
		msgs = append(msgs, c.messages(replace, t.k.port())...)
	}
	if err := t.k.batch(msgs); err != nil {
		return err
	}
	t.names = names
	return nil
}

// change compares what is wanted of a layer with what there is.
func (r *ruleset) change(l layerInfo, have []table, port uint32) change {
	c := change{have: have}
	if !r.active(l) {
		return c
	}
	c.names[0] = freeName(floorName, have, port)
	if r.support.Owner == nil {
		c.names[1] = freeName(ownedName, have, port)
	}
	c.want = r.tables(l, c.names, port)
	return c
}

// tables are the wanted ones of a layer. An empty name stands for none.
func (r *ruleset) tables(l layerInfo, names [2]string, port uint32) []table {
	ts := []table{r.table(l, names[0], false)}
	if names[1] != "" {
		ts = append(ts, r.table(l, names[1], true))
		ts[1].owner = port
	}
	return ts
}

// freeName returns the first name whose table does not belong to another process.
func freeName(base string, have []table, port uint32) string {
	name := base
	for n := 2; slices.ContainsFunc(have, func(h table) bool { return h.name == name && h.foreign(port) }); n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	return name
}

// foreign: a socket other than port owns the table.
func (t *table) foreign(port uint32) bool { return t.flags&flagOwner != 0 && t.owner != port }

// messages makes what is wanted first, and then takes away what dead guards left.
func (c *change) messages(replace bool, port uint32) (msgs []message) {
	for i := range c.want {
		w := &c.want[i]
		var have *table
		if j := slices.IndexFunc(c.have, func(h table) bool { return h.name == w.name }); j >= 0 {
			have = &c.have[j]
		}
		if have != nil && replace {
			msgs = append(msgs, have.remove())
			have = nil
		}
		msgs = append(msgs, w.make(have)...)
	}
	for i := range c.have {
		h := &c.have[i]
		if !slices.Contains(c.names[:], h.name) && !h.foreign(port) {
			msgs = append(msgs, h.remove())
		}
	}
	return msgs
}

// foreign returns ErrForeign if a table of ours belongs to another process.
func (t *Tables) foreign() error {
	for _, l := range layers {
		if l.lacks(t.set.support) != nil {
			continue
		}
		have, err := readTables(t.k, l.family)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		for i := range have {
			if have[i].foreign(t.k.port()) {
				return fmt.Errorf("%w: %v", ErrForeign, &have[i])
			}
		}
	}
	return nil
}

func linkExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}
