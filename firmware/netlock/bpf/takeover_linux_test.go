package bpf_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"holdfast/firmware/netlock/bpf"
	"holdfast/firmware/netlock/nstest"
)

// cgroupHooks are the kernel's names of the nine places.
var cgroupHooks = []ebpf.AttachType{
	ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect,
	ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg, ebpf.AttachCGroupInet4Bind, ebpf.AttachCGroupInet6Bind, ebpf.AttachCGroupInetSockCreate,
}

// TestTakeover: a guard is killed, and the next one takes its place, all while a program tries to
// send. Nothing passes at any moment, and every attempt is told once: those before the kill, those
// while there was no guard, those after.
func TestTakeover(t *testing.T) {
	for _, how := range []string{"connect", "sendto"} {
		t.Run(how, func(t *testing.T) {
			w := newWire(t)
			path := nstest.Cgroup(t)
			first := start(t, "", "guard "+path)
			if got := first.say(t, ""); got != "closed" {
				t.Fatal(got)
			}
			p := start(t, path, "prober "+how)
			p.say(t, outside4.String())
			first.kill()
			l := newLog()
			var last *bpf.Cgroup
			var r *bpf.Reader
			for range 5 { // and guards that end as they should
				if last != nil {
					if err := errors.Join(r.Close(), last.Close()); err != nil {
						t.Fatal(err)
					}
				}
				last = newCgroup(t, path)
				var err error
				if r, err = last.Events(l.add); err != nil {
					t.Fatal(err)
				}
				if err := last.Verify(); err != nil {
					t.Error(err)
				}
			}
			var tried, passed int64
			if _, err := fmt.Sscan(p.say(t, "stop"), &tried, &passed); err != nil {
				t.Fatal(err)
			}
			if passed != 0 || tried == 0 || w.left(outside4.Addr()) != 0 {
				t.Errorf("%d of %d attempts passed", passed, tried)
			}
			l.wait(t, func(e []bpf.Event) bool { return count(e) >= tried })
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			counters, err := last.Counters()
			if err != nil {
				t.Fatal(err)
			}
			if n := int64(counters["connect4"] + counters["sendmsg4"]); n != tried || len(l.events) != 0 {
				t.Errorf("%d counted and %d events too many, of %d attempts", n, len(l.events), tried)
			}
			for _, at := range cgroupHooks {
				if ids := attachedAt(t, openCgroup(t, path), at); len(ids) != 1 {
					t.Errorf("%s: programs %v", at, ids)
				}
			}
		})
	}
}

// TestCgroupStrike: each program is missed when it is taken away, and put back.
func TestCgroupStrike(t *testing.T) {
	path := nstest.Cgroup(t)
	dir := openCgroup(t, path)
	c := newCgroup(t, path)
	for _, at := range cgroupHooks {
		detachAll(t, dir, at)
		if err := c.Verify(); !errors.Is(err, bpf.ErrDetached) {
			t.Errorf("%s detached: %v", at, err)
		}
		if err := errors.Join(c.Attach(), c.Verify()); err != nil {
			t.Errorf("%s again: %v", at, err)
		}
		if ids := attachedAt(t, dir, at); len(ids) != 1 {
			t.Errorf("%s: programs %v", at, ids)
		}
	}
}

// TestTakenBack: a program behind ours undoes what ours decides, where the kernel lets it. Verify
// tells, and Attach puts ours behind it without a gap.
func TestTakenBack(t *testing.T) {
	w := newWire(t)
	path := nstest.Cgroup(t)
	dir := openCgroup(t, path)
	c := newCgroup(t, path)
	a := start(t, path, "attacker")
	for i := range 3 { // it comes back
		p := takeBack(t, ebpf.AttachCGroupInet4Connect)
		attach(t, dir, ebpf.AttachCGroupInet4Connect, p, 2, nil)
		if err := c.Verify(); !errors.Is(err, bpf.ErrOrder) {
			t.Fatalf("round %d: %v", i, err)
		}
		// Connecting is not refused any more. Egress still is.
		if got := a.say(t, "udp connect\t"+outside4.String()); got != "EPERM" || w.left(outside4.Addr()) != 0 {
			t.Errorf("round %d: sent, %s", i, got)
		}
		if err := errors.Join(c.Attach(), c.Verify()); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		before, err := c.Counters()
		if err != nil {
			t.Fatal(err)
		}
		if got := a.say(t, "udp connect\t"+outside4.String()); got != "EPERM" {
			t.Errorf("round %d: %s", i, got)
		}
		after, err := c.Counters()
		if err != nil || after["connect4"] != before["connect4"]+1 || after["egress"] != before["egress"] {
			t.Errorf("round %d: %v, then %v %v", i, before, after, err)
		}
	}
}

// TestDetachCgroup: maintenance opens, and closes again.
func TestDetachCgroup(t *testing.T) {
	w := newWire(t)
	path := nstest.Cgroup(t)
	c := newCgroup(t, path)
	a := start(t, path, "attacker")
	if err := c.Detach(); err != nil {
		t.Fatal(err)
	}
	if got := a.say(t, "udp sendto\t"+outside4.String()); got != "sent" || w.left(outside4.Addr()) != 1 {
		t.Errorf("open: %s", got)
	}
	if err := c.Verify(); !errors.Is(err, bpf.ErrDetached) {
		t.Errorf("open: %v", err)
	}
	if err := c.Detach(); err != nil {
		t.Errorf("twice: %v", err)
	}
	if err := c.Attach(); err != nil {
		t.Fatal(err)
	}
	if got := a.say(t, "udp sendto\t"+outside4.String()); got != "EPERM" {
		t.Errorf("closed again: %s", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := a.say(t, "udp sendto\t"+outside4.String()); got != "EPERM" {
		t.Errorf("after the guard's end: %s", got)
	}
	_, counters := c.Counters()
	_, reader := c.Events(func(bpf.Event) {})
	for _, err := range []error{c.Attach(), c.Verify(), c.Detach(), counters, reader} {
		if !errors.Is(err, bpf.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
	if err := c.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}
