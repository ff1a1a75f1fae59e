package host_test

import (
	"slices"
	"strings"
	"testing"

	"holdfast/firmware/netlock/host"
)

// kernelDefaults is a kernel with two links, as Debian starts it, shortened.
func kernelDefaults() map[string]string {
	files := map[string]string{
		"proc/sys/kernel/kexec_load_disabled":       "0\n",
		"proc/sys/kernel/unprivileged_bpf_disabled": "2\n",
		"proc/sys/kernel/perf_event_paranoid":       "3\n",
		"proc/sys/kernel/yama/ptrace_scope":         "0\n",
		"proc/sys/kernel/core_pattern":              "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t 9223372036854775808 %h\n",
		"proc/sys/fs/suid_dumpable":                 "2\n",
		"proc/sys/net/core/bpf_jit_harden":          "0\n",
		"proc/sys/net/ipv4/icmp_echo_ignore_all":    "0\n",
	}
	for _, link := range []string{"all", "default", "lo", "eth0", "eth0.5"} {
		for _, v := range []string{"forwarding", "arp_ignore", "send_redirects"} {
			files["proc/sys/net/ipv4/conf/"+link+"/"+v] = "1\n"
		}
		for _, v := range []string{"disable_ipv6", "accept_ra"} {
			files["proc/sys/net/ipv6/conf/"+link+"/"+v] = map[string]string{"disable_ipv6": "0\n", "accept_ra": "1\n"}[v]
		}
		if link != "all" {
			files["proc/sys/net/ipv4/neigh/"+link+"/mcast_solicit"] = "3\n"
		}
	}
	return files
}

func TestSysctl(t *testing.T) {
	f := newFake(t, kernelDefaults())
	s := host.NewSysctl(f.root, host.SysctlOptions{})
	if err := s.Verify(); err == nil || err.Error() != "net.ipv4.conf.all.forwarding is 1, not 0, and 27 more" {
		t.Errorf("before: %v", err)
	}
	changes := applied(t, s)
	if len(changes) != 28 || changes[0] != "net.ipv4.conf.all.forwarding: 0, was 1" {
		t.Errorf("%d changes: %q", len(changes), changes)
	}
	for name, want := range map[string]string{
		"net/ipv4/conf/all/forwarding": "0", "net/ipv4/conf/eth0.5/arp_ignore": "8", "net/ipv6/conf/default/disable_ipv6": "1",
		"net/ipv4/neigh/eth0/mcast_solicit": "0", "kernel/kexec_load_disabled": "1", "kernel/yama/ptrace_scope": "2",
		"kernel/unprivileged_bpf_disabled": "1", "kernel/perf_event_paranoid": "3", // already more than is asked for
		// Loopback keeps what it has.
		"net/ipv6/conf/lo/disable_ipv6": "0", "net/ipv4/conf/lo/arp_ignore": "1", "net/ipv4/neigh/lo/mcast_solicit": "3",
		// These are the core dumps' layer.
		"fs/suid_dumpable": "2",
	} {
		if got := f.get("proc/sys/" + name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if changes := applied(t, s); len(changes) != 0 {
		t.Errorf("applied again, it changed %q", changes)
	}
}

// What is changed later, and a link that comes later, are found and set right.
func TestSysctlLater(t *testing.T) {
	f := newFake(t, kernelDefaults())
	s := host.NewSysctl(f.root, host.SysctlOptions{})
	applied(t, s)
	f.put("proc/sys/net/ipv4/conf/eth0/forwarding", "1\n")
	verified(t, s, "net.ipv4.conf.eth0.forwarding is 1, not 0")
	f.put("proc/sys/net/ipv6/conf/wlan0/accept_ra", "1\n")
	verified(t, s, "net.ipv4.conf.eth0.forwarding is 1, not 0, and 1 more")
	if got := applied(t, s); !slices.Equal(got, []string{"net.ipv4.conf.eth0.forwarding: 0, was 1", "net.ipv6.conf.wlan0.accept_ra: 0, was 1"}) {
		t.Errorf("changes: %q", got)
	}
	f.remove("proc/sys/net/ipv4/conf/eth0")
	verified(t, s, "")
}

func TestSysctlNamespace(t *testing.T) {
	f := newFake(t, kernelDefaults())
	applied(t, host.NewSysctl(f.root, host.SysctlOptions{Namespace: true}))
	for name, want := range map[string]string{"kernel/kexec_load_disabled": "0", "net/core/bpf_jit_harden": "0", "net/ipv4/conf/eth0/arp_ignore": "8"} {
		if got := f.get("proc/sys/" + name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for _, v := range host.MachineNames() {
		if strings.HasPrefix(v, "net.ipv") {
			t.Errorf("%s belongs to a namespace", v)
		}
	}
}

// Maintenance lets one link answer, and takes that back.
func TestSysctlMaintenance(t *testing.T) {
	f := newFake(t, kernelDefaults())
	s := host.NewSysctl(f.root, host.SysctlOptions{})
	applied(t, s)
	state := func() string {
		var b strings.Builder
		for _, v := range []string{"conf/all/arp_ignore", "conf/eth0/arp_ignore", "conf/eth0.5/arp_ignore", "neigh/eth0/mcast_solicit", "conf/eth0/forwarding"} {
			b.WriteString(f.get("proc/sys/net/ipv4/" + v))
		}
		return b.String() + f.get("proc/sys/net/ipv6/conf/eth0/disable_ipv6")
	}
	for _, step := range []struct {
		open []string
		want string
	}{{nil, "888001"}, {[]string{"eth0"}, "008301"}, {[]string{"eth0.5"}, "080001"}, {nil, "888001"}} {
		s.SetOpen(step.open)
		applied(t, s)
		if got := state(); got != step.want {
			t.Errorf("open %q: got %s, want %s", step.open, got, step.want)
		}
	}
}

// One variable that cannot be written does not keep the others from being set.
func TestSysctlFault(t *testing.T) {
	files := kernelDefaults()
	delete(files, "proc/sys/net/ipv4/conf/all/forwarding")
	files["proc/sys/net/ipv4/conf/all/forwarding/"] = ""
	f := newFake(t, files)
	s := host.NewSysctl(f.root, host.SysctlOptions{})
	_, err := s.Apply()
	if err == nil || !strings.HasPrefix(err.Error(), "net.ipv4.conf.all.forwarding: ") {
		t.Errorf("apply: %v", err)
	}
	if got := f.get("proc/sys/kernel/kexec_load_disabled"); got != "1" {
		t.Errorf("what comes after a fault was not set: %s", got)
	}
	if err := s.Verify(); err == nil {
		t.Error("verify: nothing wrong")
	}
}

// Somebody else's text reaches no terminal.
func TestSysctlOddValue(t *testing.T) {
	f := newFake(t, kernelDefaults())
	c := host.NewCoreDumps(f.root)
	applied(t, c)
	f.put("proc/sys/kernel/core_pattern", "\x1b[31m\nx"+strings.Repeat("y", 200))
	verified(t, c, `kernel.core_pattern is "\x1b[31m\nx`+strings.Repeat("y", 57)+`...", not |/bin/false`)
}

func TestCoreDumps(t *testing.T) {
	f := newFake(t, kernelDefaults())
	c := host.NewCoreDumps(f.root)
	verified(t, c, `kernel.core_pattern is |/usr/lib/systemd/systemd-coredump %P %u %g %s %t 92233720368547..., not |/bin/false, and 1 more`)
	if got := applied(t, c); len(got) != 2 {
		t.Errorf("changes: %q", got)
	}
	if got := f.get("proc/sys/kernel/core_pattern"); got != "|/bin/false" {
		t.Errorf("core_pattern %q", got)
	}
	// A kernel that makes no dumps has nothing to set.
	none := host.NewCoreDumps(newFake(t, map[string]string{"proc/sys/kernel/": ""}).root)
	if got := applied(t, none); len(got) != 0 {
		t.Errorf("changes: %q", got)
	}
}

// Every variable that others are to set before the guard runs is a whole name.
func TestVariables(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range host.Variables() {
		if seen[v.Name] || v.Value == "" || strings.ContainsAny(v.Name, "/ ") {
			t.Errorf("odd or twice: %+v", v)
		}
		seen[v.Name] = true
	}
	for _, name := range []string{"net.ipv6.conf.default.disable_ipv6", "net.ipv4.neigh.default.mcast_solicit", "kernel.core_pattern", "kernel.kexec_load_disabled"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}
