package host_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"holdfast/firmware/netlock/host"
	"holdfast/firmware/netlock/nstest"
)

// TestMain puts the tests into namespaces of their own, but not a fuzzing run: its workers and
// their master talk over descriptors that a second start would lose.
func TestMain(m *testing.M) {
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-test.fuzz=") || strings.HasPrefix(arg, "-test.fuzzworker") {
			os.Exit(m.Run())
		}
	}
	nstest.Main(m)
}

// TestKernel sets the variables of a network namespace of the test's own: the kernel takes each
// value, a link that comes later starts with it, and loopback keeps ::1.
func TestKernel(t *testing.T) {
	nstest.Need(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	s := host.NewSysctl("/", host.SysctlOptions{Namespace: true})
	must(s.Detect())
	if changes := applied(t, s); len(changes) < 20 {
		t.Errorf("only %d changes: %q", len(changes), changes)
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "later"}, PeerName: "peer"}))
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		for link, want := range map[string]string{"later": "1", "lo": "0"} {
			p, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + link + "/disable_ipv6")
			if err != nil || strings.TrimSpace(string(p)) != want {
				t.Errorf("%s: disable_ipv6 %q, %v", link, p, err)
			}
		}
		if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
			t.Errorf("::1 has gone: %v", err)
		} else {
			l.Close()
		}
	}
	// Whatever of a link does not follow its defaults is set by the next look.
	applied(t, s)
	s.SetOpen([]string{"later"})
	applied(t, s)
	s.SetOpen(nil)
	applied(t, s)
}

// What a look costs each second: two links, on the kernel's own files, read and not written.
func BenchmarkSysctlVerify(b *testing.B) {
	nstest.Need(b)
	s := host.NewSysctl("/", host.SysctlOptions{Namespace: true})
	if _, err := s.Apply(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}

// Processes are looked at in the PID namespace of the test.
func BenchmarkCapabilitiesVerify(b *testing.B) {
	nstest.Need(b)
	c := host.NewCapabilities("/", host.CapabilityOptions{})
	for b.Loop() {
		if err := c.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}
