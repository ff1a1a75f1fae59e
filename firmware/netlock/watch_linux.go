package netlock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// checkEvery is how often every layer is looked at, whatever the kernel told.
	checkEvery = time.Second
	// settle is the least time between two looks that events ask for: somebody who makes events
	// must not keep the processor busy. New links do not wait for it.
	settle = 20 * time.Millisecond
)

// Run watches the lock until ctx ends: each second, and when the kernel tells that links, rules
// or filters have changed. It leaves the lock as it stands.
func (l *Lock) Run(ctx context.Context) error {
	if l.bare {
		return l.runBare(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	linkEvents, otherEvents := make(chan struct{}, 1), make(chan struct{}, 1)
	broken := make(chan error, 4)
	if err := l.links.watch(ctx.Done(), poke(linkEvents), func(err error) { tell(broken, err) }); err != nil {
		cancel()
		return err
	}
	for _, s := range []struct {
		family int
		groups []uint32
	}{
		{unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}},
		{unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_TC}},
	} {
		if err := listen(ctx, s.family, s.groups, poke(otherEvents)); err != nil {
			// Without the events the look each second is what there is.
			l.log.Warn("lock: no events", slog.Any("err", err))
		}
	}
	wait := l.report.start(ctx)
	defer func() { cancel(); wait() }()
	l.newLinks() // what came between Apply and the first event
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-linkEvents:
			l.newLinks()
			continue // a new link comes before everything else
		case <-otherEvents:
		case <-tick.C:
			if l.parts.tables != nil {
				l.report.countTables()
			}
		case err := <-broken:
			// Events were lost (ENOBUFS) or the socket broke: look, and listen again.
			l.log.Warn("lock: link events", slog.Any("err", err))
			if err := l.links.watch(ctx.Done(), poke(linkEvents), func(err error) { tell(broken, err) }); err != nil {
				l.log.Error("lock: link events", slog.Any("err", err))
			}
			l.newLinks()
		}
		l.check()
		if rest(ctx, linkEvents, settle) {
			l.newLinks()
		}
	}
}

// runBare looks at what belongs to the host each second; no kernel without a network tells of
// anything.
func (l *Lock) runBare(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	wait := l.report.start(ctx)
	defer func() { cancel(); wait() }()
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l.check()
		}
	}
}

// rest waits for d, or until there is a link event: then it returns true.
func rest(ctx context.Context, events <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-events:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

func poke(c chan<- struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func tell(c chan<- error, err error) {
	select {
	case c <- err:
	default:
	}
}

// listen calls event for messages of netlink multicast groups until ctx ends. What they say
// does not matter: whoever is told looks for himself.
func listen(ctx context.Context, family int, groups []uint32, event func()) error {
	c, err := netlink.Dial(family, nil)
	if err != nil {
		return fmt.Errorf("netlink family %d: %w", family, err)
	}
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			c.Close()
			return fmt.Errorf("netlink family %d, group %d: %w", family, g, err)
		}
	}
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		for ctx.Err() == nil {
			// An error means lost events (ENOBUFS) or a closed socket.
			if _, err := c.Receive(); err != nil && ctx.Err() == nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			event()
		}
	}()
	return nil
}

// newLinks sees to links that have come, and publishes how the lock stands.
func (l *Lock) newLinks() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.applied {
		l.seeLinks()
		l.publish()
	}
}

// seeLinks gives links that have come the layers that go by link, before anything else happens to
// them, takes down what is up and is not to be, and reports that. The lock is held.
func (l *Lock) seeLinks() {
	list, err := l.links.list()
	if err != nil {
		l.log.Error("lock: links", slog.Any("err", err))
		return
	}
	known := identities(list)
	fresh := !slices.Equal(known, l.known)
	if fresh {
		l.applyNamed(NftNetdev, TC)
	}
	if y := l.layer(LinksDown); y.state != StateLeftOut {
		up := upLinks(list, l.open)
		if len(up) > 0 || len(l.open) > 0 {
			l.applyLayer(y)
		}
		for _, x := range up {
			l.report.linkUp(x.name)
		}
	}
	if fresh {
		l.applyNamed(Sysctl) // each link has settings of its own
		l.known = known
	}
}

// applyNamed applies layers again that are not left out or missing.
func (l *Lock) applyNamed(names ...string) {
	for _, n := range names {
		if y := l.layer(n); y.state != StateLeftOut && y.state != StateMissing {
			l.applyLayer(y)
		}
	}
}
