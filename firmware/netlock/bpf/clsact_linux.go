package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The qdisc clsact, and its two places for filters (linux/pkt_sched.h).
const (
	clsactHandle  = 0xffff0000
	clsactParent  = 0xfffffff1
	parentIngress = 0xfffffff2
	parentEgress  = 0xfffffff3
)

// Our filter has the lowest preference there is, so that it is asked first. Filters of the same
// preference must be of the same kind; the newest of them is asked first, so there must be none.
const (
	preference   = 1
	filterHandle = 1
)

// filter is what matters of a filter, in the order of asking.
type filter struct {
	netlink.Filter
	id     int // of its program
	direct bool
}

func parentOf(h Hook) uint32 {
	if h == TCEgress {
		return parentEgress
	}
	return parentIngress
}

func linkOf(ifindex int) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
}

// filters lists the filters that are asked at a link; those of other chains are not.
func (t *TC) filters(ifindex int, h Hook) ([]filter, error) {
	all, err := t.routes.FilterList(linkOf(ifindex), parentOf(h))
	if err != nil {
		return nil, err
	}
	var first []filter
	for _, f := range all {
		if c := f.Attrs().Chain; c != nil && *c != 0 {
			continue
		}
		one := filter{Filter: f}
		if b, ok := f.(*netlink.BpfFilter); ok {
			one.id, one.direct = b.Id, b.DirectAction
		}
		first = append(first, one)
	}
	return first, nil
}

// clsactOf tells whether a link has the qdisc, or another one in its place.
func (t *TC) clsactOf(ifindex int) (has bool, other netlink.Qdisc, err error) {
	all, err := t.routes.QdiscList(linkOf(ifindex))
	if err != nil {
		return false, nil, err
	}
	for _, q := range all {
		if q.Attrs().Parent != clsactParent {
			continue
		}
		if q.Type() == "clsact" {
			return true, nil, nil
		}
		other = q
	}
	return false, other, nil
}

// addQdisc makes the clsact qdisc. What stands in its place (ingress) is taken away.
func (t *TC) addQdisc(ifindex int) error {
	has, other, err := t.clsactOf(ifindex)
	if err != nil || has {
		return err
	}
	if other != nil {
		if err := t.routes.QdiscDel(other); err != nil {
			return err
		}
	}
	err = t.routes.QdiscAdd(qdiscOf(ifindex))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func qdiscOf(ifindex int) netlink.Qdisc {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: clsactHandle, Parent: clsactParent}}
}

// addFilters puts our filters first. Where somebody has made that impossible (a filter of another
// kind in their place, a block shared with other links) the qdisc is made anew.
func (t *TC) addFilters(ifindex int) error {
	place := func(p *twins) error { return t.placeFilter(ifindex, p) }
	err := t.both(place)
	if err == nil || errors.Is(err, unix.ENODEV) {
		return err
	}
	if err := t.routes.QdiscDel(qdiscOf(ifindex)); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return t.both(place)
}

func (t *TC) placeFilter(ifindex int, p *twins) error {
	if err := t.addQdisc(ifindex); err != nil {
		return err
	}
	if t.verifyFilter(ifindex, p) == nil {
		return nil
	}
	// This replaces a filter that an older process put there, in one step.
	err := t.routes.FilterReplace(&netlink.BpfFilter{
		FilterAttrs:  attrsOf(ifindex, p.hook),
		Fd:           p.progs[0].FD(),
		Name:         p.name,
		DirectAction: true,
	})
	if err != nil {
		return err
	}
	all, err := t.filters(ifindex, p.hook)
	if err != nil {
		return err
	}
	for _, f := range all {
		if a := f.Attrs(); a.Priority == preference && a.Handle != filterHandle {
			if err := t.routes.FilterDel(f.Filter); err != nil {
				return err
			}
		}
	}
	return t.verifyFilter(ifindex, p)
}

func attrsOf(ifindex int, h Hook) netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: ifindex, Parent: parentOf(h), Handle: filterHandle, Priority: preference, Protocol: unix.ETH_P_ALL,
	}
}

// verifyFilter: our program, as the first filter, its verdict taken as it is.
func (t *TC) verifyFilter(ifindex int, p *twins) error {
	has, _, err := t.clsactOf(ifindex)
	if err != nil {
		return err
	}
	if !has {
		return fmt.Errorf("%w: no clsact qdisc", ErrDetached)
	}
	all, err := t.filters(ifindex, p.hook)
	if err != nil {
		return err
	}
	for i, f := range all {
		if p.which(ebpf.ProgramID(f.id)) < 0 {
			continue
		}
		switch a := f.Attrs(); {
		case i > 0:
			return fmt.Errorf("%w: a %s filter is asked before ours", ErrOrder, all[0].Type())
		case !f.direct || a.Protocol != unix.ETH_P_ALL:
			return fmt.Errorf("%w: our program is in a filter that is not ours", ErrDetached)
		}
		return nil
	}
	return ErrDetached
}

// removeFilters takes our filters away, and the qdisc when nothing is left in it.
func (t *TC) removeFilters(ifindex int, p *twins) error {
	if has, _, err := t.clsactOf(ifindex); err != nil || !has {
		return err
	}
	all, err := t.filters(ifindex, p.hook)
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.id == 0 || !p.ours(ebpf.ProgramID(f.id)) {
			continue
		}
		if err := t.routes.FilterDel(f.Filter); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for _, h := range []Hook{TCEgress, TCIngress} {
		if left, err := t.filters(ifindex, h); err != nil || len(left) > 0 {
			return err
		}
	}
	return t.routes.QdiscDel(qdiscOf(ifindex))
}
