package netlock

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/bpf"
	"holdfast/firmware/netlock/host"
	"holdfast/firmware/netlock/nft"
)

// logGroup is the NFLOG group that the tables report to. 0 is the kernel's own default, and
// other programs' first choice.
const logGroup = 7380

// parts are what layers act through. nil where the kernel has nothing of it.
type parts struct {
	tables  *nft.Tables
	applied bool // the tables, at least once
	tc      *bpf.TC
	cgroup  *bpf.Cgroup
	sysctl  *host.Sysctl
}

// New finds out what the kernel has. It changes nothing yet.
func New(cfg Config) (*Lock, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = sinceBoot
	}
	for _, n := range cfg.Without {
		if !slices.Contains(Names(), n) {
			return nil, fmt.Errorf("netlock: no layer %q; there are %s", n, strings.Join(Names(), ", "))
		}
	}
	l := &Lock{cfg: cfg, log: cfg.Log}
	l.report = newReporter(l)
	if l.bare = noNetwork(); l.bare {
		return l, l.addHost()
	}
	var err error
	if l.links, err = newLinks(); err != nil {
		return nil, fmt.Errorf("netlock: %w", err)
	}
	if err := l.mayAct(); err != nil {
		return nil, err
	}
	if err := errors.Join(l.addTables(), l.addTC(), l.addLinks(), l.addCgroup()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, l.addHost()
}

// noNetwork tells a kernel without a network stack: grade A.
func noNetwork() bool {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err == nil {
		unix.Close(fd)
		return false
	}
	_, statErr := os.Stat("/sys/class/net")
	return errors.Is(err, unix.ENOSYS) && errors.Is(statErr, os.ErrNotExist)
}

// mayAct refuses a namespace that is not what the configuration says it is. The guard of a
// board decides itself whether the machine is one.
func (l *Lock) mayAct() error {
	list, err := l.links.list()
	if err != nil {
		return fmt.Errorf("netlock: %w", err)
	}
	if names := hardware(list); l.cfg.Namespace && len(names) > 0 {
		return fmt.Errorf("%w: %s", ErrHardware, strings.Join(names, " "))
	}
	if !l.cfg.Namespace && !firstNamespace() {
		return ErrForeign
	}
	return nil
}

func firstNamespace() bool {
	own, err := os.Readlink("/proc/self/ns/net")
	first, errFirst := os.Readlink("/proc/1/ns/net")
	return err == nil && errFirst == nil && own == first
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (l *Lock) add(y *layer) { l.layers = append(l.layers, y) }

// gone returns a layer's detect for something that was looked for once.
func gone(err error) func() error { return func() error { return err } }

func (l *Lock) addTables() error {
	has := nft.Detect()
	var without []string
	families := []struct {
		name   string
		needed bool
		has    error
	}{{NftInet, true, has.Inet}, {NftARP, true, has.ARP}, {NftBridge, true, has.Bridge}, {NftNetdev, false, has.Ingress}}
	for _, f := range families {
		if f.has != nil || l.leftOut(f.name) {
			without = append(without, f.name)
		}
	}
	t, err := nft.New(nft.Config{Group: logGroup, Without: without})
	if err != nil {
		return fmt.Errorf("netlock: %w", err)
	}
	l.parts.tables = t
	l.report.hear(logGroup)
	for _, f := range families {
		y := &layer{name: f.name, needed: f.needed, detect: gone(f.has), maintained: true, apply: l.applyTables,
			verify: func() error { return t.Verify(f.name) }}
		if f.name == NftNetdev {
			y.apply = l.applyLinkTables
		}
		l.add(y)
	}
	return nil
}

// applyTables puts the tables of all families in place at once.
func (l *Lock) applyTables() error {
	l.parts.applied = true
	if len(l.open) > 0 {
		return l.parts.tables.Open(l.open)
	}
	return l.parts.tables.Apply()
}

// applyLinkTables gives each link its chains.
func (l *Lock) applyLinkTables() error {
	list, err := l.links.list()
	if err != nil {
		return err
	}
	var names []string
	for _, x := range list {
		if !slices.Contains(l.open, x.name) {
			names = append(names, x.name)
		}
	}
	if err := l.parts.tables.SetLinks(names); err != nil || l.parts.applied {
		return err
	}
	return l.applyTables() // no layer of another family has
}

func (l *Lock) leftOut(name string) bool {
	return slices.Contains(l.cfg.Without, name) || leaks[name]
}

func (l *Lock) addTC() error {
	has := bpf.Detect()
	y := &layer{name: TC, maintained: true, apply: l.applyTC, verify: l.verifyTC}
	l.add(y)
	if has.TCX != nil && has.Clsact != nil {
		y.detect = gone(errors.Join(has.TCX, has.Clsact))
		return nil
	}
	t, err := bpf.NewTC()
	if err != nil {
		y.detect = gone(err)
		return nil
	}
	l.parts.tc = t
	l.report.follow(TC, t.Events)
	return nil
}

// applyTC puts the programs on each link. A link that has gone meanwhile needs none.
func (l *Lock) applyTC() error {
	return l.eachLink(func(x link) error {
		if slices.Contains(l.open, x.name) {
			return l.parts.tc.Drop(x.index)
		}
		return l.parts.tc.Add(x.index)
	})
}

func (l *Lock) verifyTC() error {
	return l.eachLink(func(x link) error {
		if slices.Contains(l.open, x.name) {
			return nil
		}
		return l.parts.tc.Verify(x.index)
	})
}

func (l *Lock) eachLink(f func(link) error) error {
	list, err := l.links.seen()
	if err != nil {
		return err
	}
	for _, x := range list {
		if e := f(x); e != nil && l.stillThere(x) {
			err = errors.Join(err, fmt.Errorf("%s: %w", x.name, e))
		}
	}
	return err
}

func (l *Lock) stillThere(x link) bool {
	list, err := l.links.list() // anew
	return err != nil || slices.ContainsFunc(list, func(y link) bool { return y.index == x.index })
}

func (l *Lock) addLinks() error {
	l.add(l.linksDown())
	return nil
}

func (l *Lock) addCgroup() error {
	dir := l.cfg.Cgroup
	y := &layer{name: CgroupBPF, maintained: true, apply: l.applyCgroup, verify: l.verifyCgroup}
	l.add(y)
	if dir == "" && !l.cfg.Namespace {
		dir = CgroupTree()
	}
	if dir == "" {
		y.detect = gone(errors.New("no cgroup v2 tree"))
		return nil
	}
	if has := bpf.Detect(); has.Cgroup != nil {
		y.detect = gone(has.Cgroup)
		return nil
	}
	if l.leftOut(CgroupBPF) {
		return nil
	}
	// Made here it would act before Apply: it attaches at once.
	y.apply = func() error {
		if l.parts.cgroup == nil {
			c, err := bpf.NewCgroup(dir)
			if err != nil {
				return err
			}
			l.parts.cgroup = c
			l.report.follow(CgroupBPF, c.Events)
		}
		return l.applyCgroup()
	}
	return nil
}

// applyCgroup: during maintenance the cgroup's programs are gone, since they know no links.
func (l *Lock) applyCgroup() error {
	if len(l.open) > 0 {
		return l.parts.cgroup.Detach()
	}
	return l.parts.cgroup.Attach()
}

func (l *Lock) verifyCgroup() error {
	if len(l.open) > 0 {
		return nil
	}
	return l.parts.cgroup.Verify()
}

// CgroupTree returns where the cgroup v2 tree is mounted; empty where it is not.
func CgroupTree() (root string) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(mounts)) {
		head, tail, ok := strings.Cut(line, " - ")
		if fields := strings.Fields(head); ok && strings.HasPrefix(tail, "cgroup2 ") && len(fields) > 4 {
			root = fields[4] // the last mount hides others
		}
	}
	return root
}

// Close gives up the Lock's sockets, after Run. What it has locked stays locked.
func (l *Lock) Close() error {
	l.report.close()
	var errs []error
	if l.parts.tables != nil {
		errs = append(errs, l.parts.tables.Close())
	}
	if l.parts.tc != nil {
		errs = append(errs, l.parts.tc.Close())
	}
	if l.parts.cgroup != nil {
		errs = append(errs, l.parts.cgroup.Close())
	}
	if l.links != nil {
		l.links.handle.Close()
	}
	return errors.Join(errs...)
}
