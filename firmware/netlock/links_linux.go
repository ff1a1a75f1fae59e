package netlock

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// link is one network interface other than lo.
type link struct {
	index int
	name  string
	kind  string // as rtnetlink has it; empty: a driver's own, so hardware
	up    bool
}

// links sees and switches the interfaces of this process's namespace.
type links struct {
	handle *netlink.Handle
	last   []link // as list returned it last; nil where a look has to list anew
}

func newLinks() (*links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &links{handle: h}, nil
}

// list returns all interfaces but lo.
func (l *links) list() ([]link, error) {
	all, err := l.handle.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list of the links: %w", err)
	}
	var list []link
	for _, x := range all {
		a := x.Attrs()
		if a.Flags&net.FlagLoopback != 0 {
			continue
		}
		kind := x.Type()
		if kind == "device" { // what the library calls a link without a kind
			kind = ""
		}
		list = append(list, link{index: a.Index, name: a.Name, kind: kind, up: a.Flags&net.FlagUp != 0})
	}
	l.last = list
	return list, nil
}

// seen returns the list of this look, so that one look asks the kernel once.
func (l *links) seen() ([]link, error) {
	if l.last != nil {
		return l.last, nil
	}
	return l.list()
}

// down takes a link down. A link that is gone is down.
func (l *links) down(index int) error { return l.switched(index, l.handle.LinkSetDown) }

// raise lets a link come up.
func (l *links) raise(index int) error { return l.switched(index, l.handle.LinkSetUp) }

func (l *links) switched(index int, f func(netlink.Link) error) error {
	l.last = nil
	err := f(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// watch calls event after each change of a link until done is closed. It returns once it
// listens; broken is called when it does so no more.
func (l *links) watch(done <-chan struct{}, event func(), broken func(error)) error {
	updates := make(chan netlink.LinkUpdate, 64)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback:     broken,
		ReceiveBufferSize: watchBuffer,
	})
	if err != nil {
		return fmt.Errorf("link events: %w", err)
	}
	go func() {
		for range updates {
			event()
		}
	}()
	return nil
}

// watchBuffer holds the events of some thousand links at once, in bytes.
const watchBuffer = 1 << 20

// hardware returns the names of links that no software made.
func hardware(list []link) (names []string) {
	for _, x := range list {
		if x.kind == "" {
			names = append(names, x.name)
		}
	}
	return names
}

func namesOf(list []link) (names []string) {
	for _, x := range list {
		names = append(names, x.name)
	}
	slices.Sort(names)
	return names
}

// identity is what layers that go by link depend on: a link that was renamed is a new one to them.
type identity struct {
	index int
	name  string
}

func identities(list []link) (ids []identity) {
	for _, x := range list {
		ids = append(ids, identity{x.index, x.name})
	}
	slices.SortFunc(ids, func(a, b identity) int { return a.index - b.index })
	return ids
}

// upLinks returns those that are up and are not allowed to be.
func upLinks(list []link, allowed []string) (up []link) {
	for _, x := range list {
		if x.up && !slices.Contains(allowed, x.name) {
			up = append(up, x)
		}
	}
	return up
}

// linksDown is the layer LinksDown.
func (l *Lock) linksDown() *layer {
	return &layer{
		name: LinksDown, maintained: true,
		apply: func() error {
			list, err := l.links.list()
			if err != nil {
				return err
			}
			for _, x := range upLinks(list, l.open) {
				err = errors.Join(err, l.links.down(x.index))
			}
			for _, x := range list {
				if !x.up && slices.Contains(l.open, x.name) {
					err = errors.Join(err, l.links.raise(x.index))
				}
			}
			return err
		},
		verify: func() error {
			list, err := l.links.seen()
			if err != nil {
				return err
			}
			if up := upLinks(list, l.open); len(up) > 0 {
				return fmt.Errorf("up: %s", strings.Join(namesOf(up), " "))
			}
			return nil
		},
	}
}
