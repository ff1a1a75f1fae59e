package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"

	"holdfast/firmware/confine"
)

// underEnv makes the test program hold itself to a filter of system calls and become the
// program that its arguments name.
const underEnv = "HOLDFAST_E2E_UNDER"

// The filters.
const (
	underNoSockets = "no sockets"  // as a kernel without a network stack
	underLists     = "the lists"   // what the processes are held to, but a call outside ends them
	underOffline   = "the offline" // the same, where no link needs a socket
)

func init() {
	if under := os.Getenv(underEnv); under != "" {
		fmt.Fprintln(os.Stderr, "e2e:", become(under, os.Args[1:]))
		os.Exit(1)
	}
}

// become returns only if it cannot.
func become(under string, command []string) error {
	if err := os.Unsetenv(underEnv); err != nil {
		return err
	}
	// This thread alone: it becomes the program, and what the others do until then is not meant.
	runtime.LockOSThread()
	filter := seccomp.Filter{NoNewPrivs: true}
	switch under {
	case underNoSockets:
		filter.Policy = noSockets()
	case underOffline:
		filter.Policy = confine.Policy(confine.SupervisorProcess, confine.Options{Bench: true})
		filter.Policy.DefaultAction = seccomp.ActionTrap
	case underLists:
		filter.Policy = confine.Policy(confine.SupervisorProcess, confine.Options{Bench: true, TCP: []uint16{1}, UDP: []uint16{1}})
		filter.Policy.DefaultAction = seccomp.ActionTrap
	}
	if err := seccomp.LoadFilter(filter); err != nil {
		return err
	}
	return syscall.Exec(command[0], command, os.Environ())
}

// noSockets answers as a kernel that was built without a network stack: no socket of any
// family, and nothing that is made from one. Filters of system calls are not there either.
func noSockets() seccomp.Policy {
	return seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{
		{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{
			"socket", "socketpair", "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt",
			"sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "shutdown", "io_uring_setup", "bpf", "seccomp",
		}},
		{Action: seccomp.ActionErrno | seccomp.Action(unix.EINVAL), NamesWithCondtions: []seccomp.NameWithConditions{
			{Name: "prctl", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: unix.PR_SET_SECCOMP}}},
		}},
	}}
}

// under is the command for a program under a filter.
func under(t testing.TB, filter, name string, args ...string) *exec.Cmd {
	t.Helper()
	if !seccomp.Supported() {
		t.Skip("this kernel has no filters of system calls")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{filepath.Join(bin, name)}, args...)...)
	cmd.Env = append(os.Environ(), underEnv+"="+filter)
	return cmd
}

// flight is a whole flight: from the ground, armed, into the air.
func flight(t testing.TB, seed uint64) [][]byte {
	t.Helper()
	return flightFrames(t, vehicleOf(seed))
}

// TestRecordsWithoutANetworkStack: a whole flight is recorded, sealed, closed, opened and
// verified by programs for which every call for a socket fails, from their first instruction.
func TestRecordsWithoutANetworkStack(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"run", "record"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			b := newBoard(t)
			line := b.pty()
			daemon := startCommand(t, under(t, underNoSockets, "holdfastd", command, "--config", b.config()))
			sent := join(flight(t, 61))
			send(t, line, sent)
			b.waitBytes(len(sent))
			daemon.stop()
			b.checkClosed(sent)
			records := b.open(0)
			checkStream(t, sent, records)
			if len(records) < 2 {
				t.Errorf("%d records, want the flight in one of its own", len(records))
			}
			for _, verb := range [][]string{
				{"holdfast", "verify", b.vault()}, {"holdfast", "list", b.vault()},
				{"holdfast", "open", b.vault(), "-i", b.operator, "-o", b.path("elsewhere")},
				{"holdfastd", "version"}, {"holdfastd", "check", "--config", b.config()},
				{"holdfast", "keygen", "-o", b.path("another.key")},
			} {
				if out, err := under(t, underNoSockets, verb[0], verb[1:]...).CombinedOutput(); err != nil && verb[1] != "check" {
					t.Errorf("%v: %v: %s", verb, err, out)
				}
			}
			if !notesSay(t, b, "seccomp") {
				t.Error("no record says that the filter of system calls is missing")
			}
		})
	}
}

// notesSay tells whether flight.json of any record has a note about what.
func notesSay(t testing.TB, b *board, what string) bool {
	t.Helper()
	out := filepath.Join(t.TempDir(), "notes")
	must(t, "holdfast", "open", b.vault(), "-i", b.operator, "-o", out)
	files, _ := filepath.Glob(filepath.Join(out, "*", "*", "flight.json"))
	return slices.ContainsFunc(files, func(f string) bool {
		return bytes.Contains(readFile(t, f), fmt.Appendf(nil, "%q: %q", "what", what))
	})
}

// TestListsAreEnough: no path of the program calls for more than the lists have. A call outside
// them ends the program here, and its trace says which it was.
func TestListsAreEnough(t *testing.T) {
	t.Parallel()
	for name, fly := range map[string]func(t *testing.T, b *board){
		"line":     flyLine,
		"file":     flyFile,
		"tcp":      flyTCP,
		"udp":      flyUDP,
		"refusals": flyRefused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fly(t, newBoard(t, `flush_idle = "100ms"`))
		})
	}
}

// watched starts the supervisor where a call outside its list, which holds those of its
// children, ends it. GC and scheduler have much to do.
func (b *board) watched(filter string) *process {
	b.t.Helper()
	cmd := under(b.t, filter, "holdfastd", "run", "--config", b.config())
	cmd.Env = append(cmd.Env, "GOMAXPROCS=8", "GOGC=5", "GODEBUG=madvdontneed=1,gcstoptheworld=0")
	return startCommand(b.t, cmd)
}

// unharmed wants that nothing ended by a call that is not on its list.
func (p *process) unharmed() {
	p.t.Helper()
	for _, bad := range []string{"SIGSYS", "bad system call", "recorder died"} {
		if text := p.errs.String(); strings.Contains(text, bad) {
			p.t.Fatalf("a call is missing on the list: %s", text)
		}
	}
}

// flyLine: first start, a flight, the line unplugged and plugged in again, the recorder killed
// and recovered, the end.
func flyLine(t *testing.T, b *board) {
	line, daemon := b.pty(), b.watched(underOffline)
	frames := flight(t, 62)
	third := len(frames) / 3
	send(t, line, join(frames[:third]))
	b.waitFrames(third)
	line.Close()
	line = b.pty()
	send(t, line, join(frames[third:2*third]))
	b.waitFrames(2 * third)
	daemon.unharmed()
	pid := daemon.child()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, patience, "another recorder", func() bool { return !alive(pid) && daemon.child() != pid })
	send(t, line, join(frames[2*third:]))
	b.waitFrames(len(frames) - 2*third)
	daemon.stop()
	if text := daemon.errs.String(); strings.Contains(text, "SIGSYS") {
		t.Fatalf("a call is missing on the list: %s", text)
	}
	b.open(3)
}

func flyFile(t *testing.T, b *board) {
	sent := join(flight(t, 63))
	b.configure("file:" + writeFile(t, b.path("raw.bin"), string(sent)))
	daemon := b.watched(underOffline)
	code := daemon.wait(patience)
	daemon.unharmed()
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, daemon.errs.String())
	}
	checkStream(t, sent, b.open(0))
}

func flyTCP(t *testing.T, b *board) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.configure("tcp:" + l.Addr().String())
	daemon := b.watched(underLists)
	frames := flight(t, 64)
	sent, half := join(frames), len(join(frames[:len(frames)/2]))
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{sent[:half], sent[half:]} {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	b.waitBytes(len(sent))
	daemon.stop()
	daemon.unharmed()
	checkStream(t, sent, b.open(0))
}

func flyUDP(t *testing.T, b *board) {
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().String()
	free.Close()
	b.configure("udp:" + addr)
	daemon := b.watched(underLists)
	waitFor(t, patience, "status.json", func() bool { return b.health() != nil })
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frames := groundFrames(t, 65)[:200]
	for _, f := range frames {
		if _, err := conn.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	b.waitFrames(len(frames))
	daemon.stop()
	daemon.unharmed()
	checkStream(t, join(frames), b.open(0))
}

// flyRefused: a device that is none, and a vault in use.
func flyRefused(t *testing.T, b *board) {
	daemon := b.watched(underOffline)
	waitFor(t, patience, "status.json", func() bool { return b.health() != nil })
	second := b.watched(underOffline)
	if code := second.wait(patience); code != 1 || !strings.Contains(second.errs.String(), "in use") {
		t.Errorf("exit code %d: %s", code, second.errs.String())
	}
	daemon.stop()
	daemon.unharmed()
	second.unharmed()
}

// TestWatchingFindsACall: the test above would find a call that is not on the lists.
func TestWatchingFindsACall(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.configure("udp:127.0.0.1:9")
	// On the list of a recorder with this link is a socket, on the one of the filter is not.
	daemon := startCommand(t, under(t, underOffline, "holdfastd", "record", "--config", b.config()))
	if code := daemon.wait(patience); code == 0 || !strings.Contains(daemon.errs.String(), "SIGSYS") {
		t.Errorf("exit code %d: %s", code, daemon.errs.String())
	}
}

// status returns the fields of /proc/PID/status.
func status(t testing.TB, pid int) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for l := range strings.Lines(string(readFile(t, fmt.Sprintf("/proc/%d/status", pid)))) {
		name, value, _ := strings.Cut(l, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

// wantConfined wants that a process has what is claimed of it.
func wantConfined(t testing.TB, what string, pid int) {
	t.Helper()
	s := status(t, pid)
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2"}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		want[set] = "0000000000000000"
	}
	if os.Geteuid() == 0 { // an ordinary user cannot empty it, and needs not
		want["CapBnd"] = "0000000000000000"
	}
	for name, value := range want {
		if s[name] != value {
			t.Errorf("%s: %s is %s, want %s", what, name, s[name], value)
		}
	}
}

// TestProcessesAreConfined looks at the running processes from outside.
func TestProcessesAreConfined(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	line, daemon := b.pty(), b.run()
	send(t, line, join(groundFrames(t, 66)))
	b.waitSealed(1)
	wantConfined(t, "recorder", daemon.child())
	wantConfined(t, "supervisor", daemon.cmd.Process.Pid)
	daemon.stop()
	// What a supervisor has given up its recorder does not have, so one without a supervisor too.
	daemon = b.record()
	waitFor(t, patience, "a recorder that is ready", func() bool { return status(t, daemon.cmd.Process.Pid)["Seccomp"] == "2" })
	wantConfined(t, "recorder alone", daemon.cmd.Process.Pid)
	daemon.stop()
}

// TestKeyChildIsConfined holds the flight-key process where it reads its input.
func TestKeyChildIsConfined(t *testing.T) {
	t.Parallel()
	_, recipient := newIdentity(t)
	cmd := exec.Command(filepath.Join(bin, "holdfastd"), "flight-key")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := startCommand(t, cmd)
	waitFor(t, patience, "a filter", func() bool { return status(t, p.cmd.Process.Pid)["Seccomp"] == "2" })
	wantConfined(t, "flight key", p.cmd.Process.Pid)
	if _, err := io.WriteString(in, recipient+"\n"); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if code := p.wait(patience); code != 0 || len(p.out.String()) < 100 {
		t.Errorf("exit code %d, %d bytes: %s", code, len(p.out.String()), p.errs.String())
	}
}

// TestBenchLeavesTheHost: a run in bench mode changes nothing that others on this machine see.
func TestBenchLeavesTheHost(t *testing.T) {
	before := hostState(t)
	b := newBoard(t)
	line, daemon := b.pty(), b.run()
	send(t, line, join(groundFrames(t, 67)))
	b.waitSealed(1)
	during := hostState(t)
	daemon.stop()
	for what, now := range map[string]map[string]string{"during": during, "after": hostState(t)} {
		for name, value := range before {
			if now[name] != value {
				t.Errorf("%s: %s was %q, is %q", what, name, value, now[name])
			}
		}
		if len(now) != len(before) {
			t.Errorf("%s: %d things to see, before there were %d", what, len(now), len(before))
		}
	}
}

// hostState is what of this machine's network and memory a lock would change.
func hostState(t testing.TB) map[string]string {
	t.Helper()
	state := readHost()
	if len(state) == 0 {
		t.Skip("nothing to see of this machine's network")
	}
	return state
}

func readHost() map[string]string {
	state := map[string]string{}
	for _, pattern := range []string{
		"/sys/class/net/*/flags", "/sys/class/net/*/address", "/proc/net/route", "/proc/net/ipv6_route", "/proc/net/if_inet6",
		"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/*/arp_ignore", "/proc/sys/net/ipv6/conf/*/disable_ipv6",
		"/proc/sys/kernel/core_pattern", "/sys/class/rfkill/*/state", "/sys/bus/usb/devices/*/authorized",
	} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if p, err := os.ReadFile(f); err == nil {
				state[f] = string(p)
			}
		}
	}
	if nft, err := exec.LookPath("nft"); err == nil {
		if out, err := exec.Command(nft, "list", "tables").Output(); err == nil {
			state["nft tables"] = string(out)
		}
	}
	return state
}
