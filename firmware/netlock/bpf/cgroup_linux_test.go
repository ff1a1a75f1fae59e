package bpf_test

import (
	"net/netip"
	"os"
	"testing"

	"holdfast/firmware/netlock/bpf"
	"holdfast/firmware/netlock/nstest"
)

func newCgroup(t testing.TB, path string) *bpf.Cgroup {
	t.Helper()
	c, err := bpf.NewCgroup(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func events(t testing.TB, from interface {
	Events(func(bpf.Event)) (*bpf.Reader, error)
}, give func(bpf.Event)) *bpf.Reader {
	t.Helper()
	r, err := from.Events(give)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// outward are the attacks, where they lead, and what is to be reported of them.
var outward = []struct {
	name     string
	to       netip.AddrPort
	hook     bpf.Hook
	protocol string
	reported string // destination
}{
	{"tcp connect", outside4, bpf.Connect4, "tcp", "198.51.100.7:4443"},
	{"tcp connect", outside6, bpf.Connect6, "tcp", "[2001:db8:1::7]:4443"},
	{"tcp connect", outside46, bpf.Connect6, "tcp", "[::ffff:198.51.100.7]:4443"},
	{"mptcp connect", outside4, bpf.Connect4, "tcp", "198.51.100.7:4443"},
	{"tcp fast open", outside4, bpf.Connect4, "tcp", "198.51.100.7:4443"},
	{"tcp fast open", outside6, bpf.Connect6, "tcp", "[2001:db8:1::7]:4443"},
	{"io_uring connect", outside4, bpf.Connect4, "tcp", "198.51.100.7:4443"},
	{"sctp connect", outside4, bpf.Socket, "sctp", ""},
	{"dccp connect", outside4, bpf.Socket, "dccp", ""},
	{"udp connect", outside4, bpf.Connect4, "udp", "198.51.100.7:4443"},
	{"udp connect", outside6, bpf.Connect6, "udp", "[2001:db8:1::7]:4443"},
	{"udp connect", outside46, bpf.Connect6, "udp", "[::ffff:198.51.100.7]:4443"},
	{"udp sendto", outside4, bpf.Sendmsg4, "udp", "198.51.100.7:4443"},
	{"udp sendto", outside6, bpf.Sendmsg6, "udp", "[2001:db8:1::7]:4443"},
	{"udp sendto", outside46, bpf.Sendmsg4, "udp", "198.51.100.7:4443"},
	{"udp sendto", everyone, bpf.Sendmsg4, "udp", "255.255.255.255:4443"},
	{"udp sendto", group4, bpf.Sendmsg4, "udp", "239.1.2.3:4443"},
	{"udp sendmsg", outside4, bpf.Sendmsg4, "udp", "198.51.100.7:4443"},
	{"udp sendmmsg", outside4, bpf.Sendmsg4, "udp", "198.51.100.7:4443"},
	{"udplite connect", outside4, bpf.Socket, "udplite", ""},
	{"udplite connect", outside6, bpf.Socket, "udplite", ""},
	{"ping socket", outside4, bpf.Socket, "icmp", ""},
	{"raw socket", outside4, bpf.Socket, "icmp", ""},
	{"source route", outside4, bpf.Egress, "udp", "198.51.100.7:4443"},
}

// TestAttacks: what arrives on the far side without the programs does not arrive with them, and
// is reported.
func TestAttacks(t *testing.T) {
	w := newWire(t)
	path := nstest.Cgroup(t)
	a := start(t, path, "attacker")
	open := make([]bool, len(outward))
	for i, x := range outward {
		w.drain()
		result := a.say(t, x.name+"\t"+x.to.String())
		open[i] = w.left(x.to.Addr()) > 0
		if !open[i] {
			t.Logf("%s to %s does not work here: %s", x.name, x.to, result)
		}
	}
	c := newCgroup(t, path)
	l := newLog()
	events(t, c, l.add)
	for i, x := range outward {
		t.Run(x.name+" "+x.to.String(), func(t *testing.T) {
			if !open[i] {
				t.Skip("it does not arrive without the programs either")
			}
			w.drain()
			before := bootNow(t)
			if result := a.say(t, x.name+"\t"+x.to.String()); result != "EPERM" {
				t.Errorf("the attacker got %s", result)
			}
			if n := w.left(x.to.Addr()); n != 0 {
				t.Errorf("%d frames left", n)
			}
			e := l.wait(t, atLeast(1))[0]
			if e.Hook != x.hook || e.Protocol() != x.protocol || e.Destination() != x.reported || e.Count != 1 {
				t.Errorf("reported: %s %s %q, want %s %s %q", e.Hook, e.Protocol(), e.Destination(), x.hook, x.protocol, x.reported)
			}
			if e.Nsec < before || e.Nsec > bootNow(t) {
				t.Errorf("time %d, not between %d and now", e.Nsec, before)
			}
			checkWho(t, e, a.pid, w.near)
		})
	}
}

// checkWho: process, name and user, or of a packet user and link.
func checkWho(t *testing.T, e bpf.Event, pid, ifindex int) {
	t.Helper()
	if e.UID != 0 {
		t.Errorf("user %d", e.UID)
	}
	if e.Hook == bpf.Egress {
		if e.PID != 0 || e.Ifindex != ifindex {
			t.Errorf("a packet of process %d on link %d", e.PID, e.Ifindex)
		}
		return
	}
	if e.PID != pid && e.PID != 0 { // before Linux 6.10 it is not known in a namespace
		t.Errorf("process %d, want %d", e.PID, pid)
	}
	if e.Comm == "" {
		t.Error("no name")
	}
}

// TestLocal: what stays on the board goes on, and nothing is counted.
func TestLocal(t *testing.T) {
	newWire(t)
	path := nstest.Cgroup(t)
	c := newCgroup(t, path)
	a := start(t, path, "attacker")
	for name := range locals {
		if result := a.say(t, name); result != "sent" {
			t.Errorf("%s: %s", name, result)
		}
	}
	counters, err := c.Counters()
	if err != nil {
		t.Fatal(err)
	}
	for hook, n := range counters {
		// The group on loopback makes the kernel send IGMP by lo alone, so nothing else counts.
		if n != 0 {
			t.Errorf("%s refused %d times", hook, n)
		}
	}
}

// TestBind: to loopback and to the unspecified address, nowhere else.
func TestBind(t *testing.T) {
	newWire(t)
	path := nstest.Cgroup(t)
	a := start(t, path, "attacker")
	tests := []struct{ to, want string }{
		{"0.0.0.0:14550", "sent"}, {"127.0.0.1:14550", "sent"}, {"127.5.5.5:14550", "sent"},
		{"[::]:14550", "sent"}, {"[::1]:14550", "sent"}, {"[::ffff:127.0.0.1]:14550", "sent"}, {"[::ffff:0.0.0.0]:14550", "sent"},
		{"192.0.2.1:14550", "EPERM"}, {"[2001:db8::1]:14550", "EPERM"}, {"[::ffff:192.0.2.1]:14550", "EPERM"}, {"224.0.0.251:5353", "EPERM"},
	}
	for _, test := range tests {
		if got := a.say(t, "bind\t"+test.to); got != "sent" {
			t.Errorf("bind to %s without the programs: %s", test.to, got)
		}
	}
	c := newCgroup(t, path)
	l := newLog()
	events(t, c, l.add)
	refused := 0
	for _, test := range tests {
		if got := a.say(t, "bind\t"+test.to); got != test.want {
			t.Errorf("bind to %s: %s, want %s", test.to, got, test.want)
		}
		if test.want == "EPERM" {
			refused++
		}
	}
	for _, e := range l.wait(t, atLeast(refused)) {
		if e.What() != "socket" || e.Detail() == "" || e.Destination() == "" {
			t.Errorf("reported: %+v", e)
		}
	}
}

// TestOpenedBefore: a socket that was connected before the lock sends nothing afterwards, and the
// packet's user is known.
func TestOpenedBefore(t *testing.T) {
	w := newWire(t)
	path := nstest.Cgroup(t)
	a := start(t, path, "attacker")
	if got := a.say(t, "keep\t"+outside4.String()); got != "sent" || w.left(outside4.Addr()) != 1 {
		t.Fatalf("without the programs: %s", got)
	}
	c := newCgroup(t, path)
	l := newLog()
	events(t, c, l.add)
	if got := a.say(t, "keep\t"+outside4.String()); got != "EPERM" {
		t.Errorf("afterwards: %s", got)
	}
	if n := w.left(outside4.Addr()); n != 0 {
		t.Errorf("%d frames left", n)
	}
	e := l.wait(t, atLeast(1))[0]
	if e.Hook != bpf.Egress || e.Destination() != outside4.String() || e.Protocol() != "udp" || e.Ifindex != w.near {
		t.Errorf("reported: %+v", e)
	}
}

// TestOutsideTheCgroup: the programs are for one cgroup. Here a process that is not in it still
// sends; on a board the cgroup is the root and there is no outside.
func TestOutsideTheCgroup(t *testing.T) {
	w := newWire(t)
	newCgroup(t, nstest.Cgroup(t))
	a := start(t, "", "attacker")
	if got := a.say(t, "udp sendto\t"+outside4.String()); got != "sent" {
		t.Errorf("outside: %s", got)
	}
	if n := w.left(outside4.Addr()); n != 1 {
		t.Errorf("%d frames left, want 1", n)
	}
}

// TestBelow: a cgroup below is covered too.
func TestBelow(t *testing.T) {
	w := newWire(t)
	path := nstest.Cgroup(t)
	below := path + "/below"
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(below) })
	newCgroup(t, path)
	a := start(t, below, "attacker")
	if got := a.say(t, "udp sendto\t"+outside4.String()); got != "EPERM" {
		t.Errorf("below: %s", got)
	}
	if n := w.left(outside4.Addr()); n != 0 {
		t.Errorf("%d frames left", n)
	}
	a.kill()
}

// TestIncoming: what comes in by a link does not reach a program that waits on 0.0.0.0.
func TestIncoming(t *testing.T) {
	w := newWire(t)
	path := nstest.Cgroup(t)
	a := start(t, path, "attacker")
	if got := a.say(t, "wait\t0.0.0.0:14550"); got != "sent" {
		t.Fatal(got)
	}
	sent := 0
	eventually(t, "without the programs nothing comes in", func() bool {
		sent++
		w.datagramFromOutside(t, 14550)
		return a.say(t, "got\t0.0.0.0:0") == "sent"
	})
	c := newCgroup(t, path)
	refused := func() int {
		counters, err := c.Counters()
		mustDo(t, err)
		return int(counters["ingress"])
	}
	eventually(t, "nothing is refused", func() bool {
		w.datagramFromOutside(t, 14550)
		return refused() > 3
	})
	// Some of the first may have waited in the socket. None came after them.
	for got, n := "sent", 0; got != "EAGAIN"; n++ {
		if got = a.say(t, "got\t0.0.0.0:0"); n > sent {
			t.Fatalf("datagrams are received: %s", got)
		}
	}
	before := refused()
	eventually(t, "nothing more is refused", func() bool {
		w.datagramFromOutside(t, 14550)
		return refused() > before+3
	})
	if got := a.say(t, "got\t0.0.0.0:0"); got != "EAGAIN" {
		t.Errorf("with the programs it receives: %s", got)
	}
}

// TestNotACgroup: paths that are none.
func TestNotACgroup(t *testing.T) {
	nstest.Need(t)
	for _, path := range []string{"/nonexistent", t.TempDir(), ""} {
		if c, err := bpf.NewCgroup(path); err == nil {
			t.Errorf("%q was taken", path)
			_ = c.Detach()
		}
	}
}
