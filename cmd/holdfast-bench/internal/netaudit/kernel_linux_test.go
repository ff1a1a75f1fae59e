package netaudit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/firmware/netlock"
)

// needRoot leaves a test out where no namespaces can be made.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip(ErrRoot)
	}
}

// pick returns the numbers of attacks by name.
func pick(t *testing.T, names ...string) (ids []int) {
	t.Helper()
	all := attacks()
	for _, n := range names {
		i := slices.IndexFunc(all, func(a *attack) bool { return a.name == n })
		if i < 0 {
			t.Fatalf("no attack %q", n)
		}
		ids = append(ids, i+1)
	}
	return ids
}

func mustPlay(t *testing.T, j job) *outcome {
	t.Helper()
	out, err := playJob(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if out.Lost != 0 || out.Loopback != "" {
		t.Errorf("lost %d frames, loopback %q", out.Lost, out.Loopback)
	}
	return out
}

// some are attacks of each kind that every kernel with namespaces can do.
var some = []string{"TCP, IPv4", "UDP, IPv6", "raw IPv4, unknown protocol", "packet socket, unknown ethertype", "UDP socket, inherited", "UDP socket handed over",
	"ARP reply", "ping reply, IPv4", "forwarding, IPv4", "MLD report as a link comes up", "adapter plugged in"}

// TestField: without a lock all arrive; under the lock nothing does, for anybody; and the
// machine is as it was.
func TestField(t *testing.T) {
	needRoot(t)
	before, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	ids := pick(t, some...)
	slices.Sort(ids)
	open := mustPlay(t, job{Rights: asRootFull, IDs: ids, Repeats: 2})
	if !slices.Equal(open.Arrived, ids) {
		t.Errorf("without a lock %v arrive of %v: %v", open.Arrived, ids, open.Errs)
	}
	for _, rights := range []string{asUser, asRootDropped} {
		out := mustPlay(t, job{Locked: true, Rights: rights, IDs: ids, Repeats: 2})
		if len(out.Arrived) > 0 || len(out.Seen) > 0 {
			t.Errorf("locked, %s: %v arrive, %v seen", rights, out.Arrived, out.Seen)
		}
	}
	after, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(before, after); len(d) > 0 {
		t.Errorf("the machine was changed: %q", d)
	}
}

// TestLeak: a lock without any layer is seen to be none.
func TestLeak(t *testing.T) {
	needRoot(t)
	ids := pick(t, "TCP, IPv4", "UDP, IPv6", "ARP reply")
	slices.Sort(ids)
	out := mustPlay(t, job{Locked: true, Without: netlock.Names(), Rights: asUser, IDs: ids})
	if !slices.Equal(out.Arrived, ids) {
		t.Errorf("%v arrive, want %v", out.Arrived, ids)
	}
}

// TestInterrupted: an audit that is interrupted leaves no process, no cgroup and no link.
func TestInterrupted(t *testing.T) {
	needRoot(t)
	before, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := playJob(ctx, job{Rights: asRootFull, IDs: pick(t, some...), Repeats: 20}); err == nil {
		t.Error("no error")
	}
	after, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(before, after); len(d) > 0 {
		t.Errorf("the machine was changed: %q", d)
	}
	comms, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	me, _ := os.Readlink("/proc/self/exe")
	for _, c := range comms {
		exe, err := os.Readlink(filepath.Join(filepath.Dir(c), "exe"))
		p, _ := os.ReadFile(c)
		if err == nil && exe == me && strings.Contains(string(p), "audit\x00part\x00") {
			t.Errorf("still there: %q", p)
		}
	}
}

// TestPartRefuses: no part acts outside namespaces of its own.
func TestPartRefuses(t *testing.T) {
	for _, part := range []string{"far", "board"} {
		if err := Part([]string{part}); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%s: %v", part, err)
		}
	}
	if err := Part(nil); err == nil {
		t.Error("no part: no error")
	}
}
