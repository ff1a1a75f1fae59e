package netaudit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// board is the conductor: it makes the board's links, starts guard and attacker, and is the
// hands that plug and rename links. It is the first process of the board's namespaces.
type board struct {
	job     job
	attacks []*attack
	far     *caller
	farNS   *os.File
	inside  *caller // the attacker
	outside *caller // the same outside the cgroup; nil: nobody asks for it
	guard   *exec.Cmd
	trials  map[int]*trial

	mu  sync.Mutex
	out outcome
}

// What the board waits for. With and without a lock it waits the same: what does not come in
// that time proves nothing in either.
const (
	startLimit   = 10 * time.Second
	settle       = 500 * time.Millisecond  // after all was sent
	settleLinks  = 1500 * time.Millisecond // the same where links came up: the kernel takes up to a second to notice
	settleRepeat = 100 * time.Millisecond  // after each repeat of a race
	breath       = 40 * time.Millisecond   // for what is on its way
)

func runBoard(in io.Reader, out io.Writer) error {
	if err := enter(); err != nil {
		return err
	}
	b := &board{attacks: attacks(), farNS: os.NewFile(3, "far"), trials: map[int]*trial{}}
	b.far = newCaller("far side", os.NewFile(4, "from far"), os.NewFile(5, "to far"))
	for fd := 3; fd <= 5; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := json.NewDecoder(in).Decode(&b.job); err != nil {
		return err
	}
	if err := b.play(); err != nil {
		b.out.Err = err.Error()
	}
	return json.NewEncoder(out).Encode(b.out)
}

func (b *board) play() error {
	if b.job.Probe {
		return b.probe()
	}
	for _, f := range []func() error{b.network, b.people, b.lock, b.attackAll, b.races, b.judge} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// network makes the board's links.
func (b *board) network() error {
	err := sysctls("ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv6.conf.default.forwarding=1",
		"ipv4.conf.all.rp_filter=0", "ipv4.conf.default.rp_filter=0", "ipv4.conf.default.arp_notify=1",
		"ipv6.conf.all.accept_dad=0", "ipv6.conf.default.accept_dad=0", "ipv6.conf.default.accept_ra=2",
		"ipv6.conf.default.router_solicitation_delay=0", "ipv4.ping_group_range=0 2147483647", "ipv4.icmp_ratelimit=0", "ipv6.icmp.ratelimit=0")
	if err != nil {
		return err
	}
	if err := up("lo"); err != nil {
		return err
	}
	// From its first answer on the far side notices links.
	if _, err := b.far.call(request{Op: "ready"}); err != nil {
		return err
	}
	if err := errors.Join(pair(sharedLink, sharedFar, wire.BoardMAC, wire.FarMAC, b.farNS), pair(secondLink, secondFar, wire.BoardMAC, wire.FarMAC, b.farNS)); err != nil {
		return err
	}
	names := []string{sharedFar, secondFar}
	err = b.own(func(id int, p linkPlan) error {
		names = append(names, ownFar(id, p.suffix))
		return pair(ownLink(id, p.suffix), ownFar(id, p.suffix), wire.MAC(id), wire.FarMAC, b.farNS)
	})
	if err != nil {
		return err
	}
	if _, err := b.far.call(request{Op: "ready", Names: names, Millis: int(startLimit.Milliseconds())}); err != nil {
		return err
	}
	if err := prepareShared(b.job.IDs); err != nil {
		return err
	}
	if err := b.prepareOwn(); err != nil {
		return err
	}
	return b.operational()
}

// operational waits until every link that was set up carries: until then the kernel drops what is sent.
func (b *board) operational() error {
	names := []string{sharedLink, secondLink}
	_ = b.own(func(id int, p linkPlan) error { // which never fails
		if !p.down {
			names = append(names, ownLink(id, p.suffix))
		}
		return nil
	})
	end := time.Now().Add(startLimit)
	for _, n := range names {
		for {
			state, err := os.ReadFile("/sys/class/net/" + n + "/operstate")
			if err != nil {
				return err
			}
			if strings.TrimSpace(string(state)) == "up" {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("link %s does not come up: %s", n, state)
			}
			pause()
		}
	}
	return nil
}

// prepareOwn gives the links of single attacks what they need.
func (b *board) prepareOwn() error {
	return b.own(func(id int, p linkPlan) error {
		for _, s := range b.attacks[id-1].conf {
			if err := sysctls(fmt.Sprintf(s, ownLink(id, p.suffix))); err != nil {
				return err
			}
		}
		switch {
		case p.down:
			return nil
		case b.attacks[id-1].bare:
			return up(ownLink(id, p.suffix))
		}
		return prepareOwn(id, ownLink(id, p.suffix))
	})
}

// own does f for each link that belongs to an attack.
func (b *board) own(f func(id int, p linkPlan) error) error {
	for _, id := range b.job.IDs {
		for _, p := range b.attacks[id-1].links {
			if err := f(id, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// people starts the attacker, with what he has from before the lock.
func (b *board) people() error {
	names, files := []string{}, []*os.File{}
	for _, id := range b.job.IDs {
		a := b.attacks[id-1]
		if a.lend == nil {
			continue
		}
		lent, err := a.lend(b.trial(id))
		if err != nil {
			return fmt.Errorf("%s: before the lock: %w", a.name, err)
		}
		for i, f := range lent {
			names, files = append(names, lentName(id, i)), append(files, f)
		}
	}
	var err error
	if b.inside, err = b.startCrew("inside", names, files); err != nil {
		return err
	}
	if slices.ContainsFunc(b.job.IDs, func(id int) bool { return b.attacks[id-1].outside }) {
		if b.outside, err = b.startCrew("outside", nil, nil); err != nil {
			return err
		}
	}
	if _, err := b.inside.call(request{Op: "loopback", Name: "before the lock"}); err != nil {
		return err
	}
	a, err := b.inside.call(request{Op: "before", IDs: b.ids(false)})
	if err != nil {
		return err
	}
	b.out.Errs = a.Errs
	return nil
}

func lentName(id, i int) string { return strconv.Itoa(id) + "-" + strconv.Itoa(i) }

// ids are the attacks that are done inside the cgroup, or outside.
func (b *board) ids(outside bool) []int {
	return slices.DeleteFunc(slices.Clone(b.job.IDs), func(id int) bool { return b.attacks[id-1].outside != outside })
}

func (b *board) trial(id int) *trial {
	if b.trials[id] == nil {
		b.trials[id] = &trial{id: id, keep: map[string]any{}}
	}
	return b.trials[id]
}

// startCrew starts an attacker with the rights of the job, in one of the audit's cgroups.
func (b *board) startCrew(place string, names []string, files []*os.File) (*caller, error) {
	args := []string{"crew", b.job.Rights, strings.Join(names, ",")}
	if b.job.Rights == asRootDropped {
		args = append([]string{"drop"}, args...)
	}
	cmd := self(args...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if b.job.Rights == asUser {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	if b.job.Cgroup != "" {
		dir, err := os.Open(filepath.Join(cgroupInside, b.job.Cgroup, place))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return newCaller("attacker", stdout, stdin), cmd.Start()
}

// lock starts the guard and waits until the lock stands.
func (b *board) lock() error {
	if b.job.Locked {
		cgroup := "-"
		if b.job.Cgroup != "" {
			cgroup = filepath.Join(cgroupInside, b.job.Cgroup, "inside")
		}
		b.guard = self("guard", cgroup, joined(b.job.Without))
		b.guard.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		stdout, err := b.guard.StdoutPipe()
		if err != nil {
			return err
		}
		if err := b.guard.Start(); err != nil {
			return err
		}
		var say applied
		if err := json.NewDecoder(stdout).Decode(&say); err != nil {
			return fmt.Errorf("guard: %w", err)
		}
		b.out.NotLocked, b.out.State = say.Err, &say.State
		for _, c := range []*caller{b.inside, b.outside} {
			if c == nil {
				continue
			}
			if _, err := c.call(request{Op: "guard", PID: b.guard.Process.Pid}); err != nil {
				return err
			}
		}
	}
	// What was on its way when the lock closed is not the lock's.
	time.Sleep(breath)
	_, err := b.far.call(request{Op: "reset"})
	return err
}

// joined writes layers for the guard's arguments.
func joined(layers []string) string {
	if len(layers) == 0 {
		return "none"
	}
	return strings.Join(layers, ",")
}

// attackAll lets everybody do everything at once, then the races, one after the other.
func (b *board) attackAll() error {
	if _, err := b.inside.call(request{Op: "raise", IDs: b.job.IDs}); err != nil {
		return err
	}
	errs := make(chan error, 2)
	run := func(c *caller, ids []int) {
		if c == nil || len(ids) == 0 {
			errs <- nil
			return
		}
		a, err := c.call(request{Op: "run", IDs: ids})
		if err == nil {
			for id, e := range a.Errs {
				b.note(id, e)
			}
		}
		errs <- err
	}
	go run(b.inside, b.steady(b.ids(false)))
	go run(b.outside, b.steady(b.ids(true)))
	b.handle()
	if err := errors.Join(<-errs, <-errs, b.stimulate()); err != nil {
		return err
	}
	return nil
}
