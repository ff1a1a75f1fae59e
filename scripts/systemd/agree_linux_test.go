package systemd_test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"holdfast/firmware"
	"holdfast/firmware/confine"
	"holdfast/firmware/netlock/host"
)

const lockDropIn = "90-holdfast-lock.conf"

// taken returns what a drop-in takes.
func taken(t *testing.T, name string) []string {
	t.Helper()
	lines := values(read(t, name), "CapabilityBoundingSet")
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "~") {
		t.Fatalf("%s: not one line that takes powers: %q", name, lines)
	}
	return strings.Fields(lines[0][1:])
}

func powers(names ...string) string {
	slices.Sort(names)
	return strings.Join(names, " ")
}

// The drop-ins for everything take what the guard looks for, all of it.
func TestDropInsTakeAllPowers(t *testing.T) {
	all := powers(strings.Fields(host.PastTheLock.String())...)
	for _, kind := range []string{"service.d", "user@.service.d", "socket.d", "swap.d"} {
		if got := powers(taken(t, kind+"/"+lockDropIn)...); got != all {
			t.Errorf("%s takes %s, want %s", kind, got, all)
		}
	}
}

// programs are what the units run for which a drop-in makes an exception.
var programs = map[string][]string{
	"systemd-udevd.service.d":        {"/usr/bin/udevadm", "/usr/lib/systemd/systemd-udevd"},
	"systemd-modules-load.service.d": {"/usr/lib/systemd/systemd-modules-load"},
	"modprobe@.service.d":            {"/usr/bin/kmod"},
	"systemd-remount-fs.service.d":   {"/usr/lib/systemd/systemd-remount-fs"},
	"systemd-sysctl.service.d":       {"/usr/lib/systemd/systemd-sysctl"},
	"systemd-cryptsetup@.service.d":  {"/usr/lib/systemd/systemd-cryptsetup"},

	"systemd-machine-id-commit.service.d": {"/usr/bin/systemd-machine-id-setup"},
	"mount.d":                             {"/usr/bin/mount", "/usr/bin/umount"},
}

// What a drop-in leaves a unit is what the guard lets its program have, and the other way round;
// each says which powers it leaves, and how to undo it.
func TestExceptionsAgree(t *testing.T) {
	want := map[string]string{}
	for _, e := range host.Exceptions() {
		if e.Kernel {
			continue // no unit's
		}
		want[e.Program] = powers(strings.Fields(e.Powers.String())...)
	}
	got := map[string]string{}
	for dir, list := range programs {
		name := dir + "/" + lockDropIn
		lost := taken(t, name)
		kept := slices.DeleteFunc(strings.Fields(host.PastTheLock.String()), func(c string) bool { return slices.Contains(lost, c) })
		for _, p := range list {
			got[p] = powers(kept...)
		}
		for _, c := range kept {
			if !strings.Contains(read(t, name), "#") || !strings.Contains(strings.Split(read(t, name), "\n[")[0], c) {
				t.Errorf("%s does not say why it leaves %s", name, c)
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("units leave\n%v\nthe guard lets pass\n%v", got, want)
	}
	dirs, err := filepath.Glob("*.d/" + lockDropIn)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range dirs {
		if text := read(t, name); !strings.Contains(text, "/dev/null") && !strings.HasPrefix(name, "holdfast-guard") {
			t.Errorf("%s does not say how the owner undoes it", name)
		}
		switch dir := filepath.Dir(name); dir {
		case "service.d", "user@.service.d", "socket.d", "swap.d", "holdfast-guard.service.d":
		default:
			if programs[dir] == nil {
				t.Errorf("%s: an exception that the guard does not know", dir)
			}
		}
	}
}

// sets reads systemd's sets of system calls.
type sets map[string][]string

// expand returns the calls of an item of SystemCallFilter=: a call, or a set of them.
func (s sets) expand(t *testing.T, item string) (calls []string) {
	t.Helper()
	if !strings.HasPrefix(item, "@") {
		return []string{item}
	}
	if s[item] == nil {
		out, err := exec.Command("systemd-analyze", "syscall-filter", item).Output()
		if err != nil {
			t.Fatalf("%s: %v", item, err)
		}
		s[item] = []string{}
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(line)
			if line != "" && line != item && !strings.HasPrefix(line, "#") {
				s[item] = append(s[item], s.expand(t, line)...)
			}
		}
	}
	return s[item]
}

// allowed goes through the lines of a unit as systemd does.
func (s sets) allowed(t *testing.T, unit string) map[string]bool {
	t.Helper()
	allowed := map[string]bool{}
	for _, c := range s.expand(t, "@default") {
		allowed[c] = true
	}
	text := read(t, unit)
	for _, line := range values(text, "SystemCallFilter") {
		list, without := strings.CutPrefix(line, "~")
		for _, item := range strings.Fields(list) {
			for _, c := range s.expand(t, item) {
				allowed[c] = !without
			}
		}
	}
	for option, set := range map[string]string{"ProtectClock": "@clock", "ProtectKernelModules": "@module"} {
		if slices.Contains(values(text, option), "yes") {
			for _, c := range s.expand(t, set) {
				allowed[c] = false
			}
		}
	}
	return allowed
}

// What a process allows itself (firmware/confine), its unit allows too: otherwise it would find
// out in the air.
func TestUnitsAllowTheirProcess(t *testing.T) {
	systemdAnalyze(t)
	s := sets{}
	for unit, processes := range map[string][]confine.Process{
		"holdfast-guard.service":  {confine.GuardProcess},
		"holdfast-record.service": {confine.RecorderProcess, confine.KeyProcess},
	} {
		allowed := s.allowed(t, unit)
		for _, p := range processes {
			for _, g := range confine.Policy(p, confine.Options{}).Syscalls[:1] {
				names := slices.Clone(g.Names)
				for _, c := range g.NamesWithCondtions {
					names = append(names, c.Name)
				}
				if len(names) < 20 {
					t.Errorf("%s: only %d calls to look for", unit, len(names))
				}
				for _, name := range names {
					// The guard asks for no clock but the monotonic one.
					if !allowed[name] && (unit != "holdfast-guard.service" || name != "adjtimex") {
						t.Errorf("%s: %s is not allowed", unit, name)
					}
				}
			}
		}
	}
}

// What sysctl.d sets before the guard runs is what the guard holds.
func TestSysctlFile(t *testing.T) {
	got := map[string]string{}
	for line := range strings.Lines(read(t, "holdfast.sysctl")) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "-"); ok {
			name, value, found := strings.Cut(rest, " = ")
			if !found || got[name] != "" {
				t.Errorf("odd line, or a name twice: %q", line)
			}
			got[name] = value
		}
	}
	for _, v := range host.Variables() {
		have, wanted := got[v.Name], v.Value
		n, _ := strconv.Atoi(have)
		least, _ := strconv.Atoi(wanted)
		if have != wanted && !(v.Least && n > least) {
			t.Errorf("%s is %q, want %q", v.Name, have, wanted)
		}
		delete(got, v.Name)
	}
	if len(got) > 0 {
		t.Errorf("nobody holds %v", got)
	}
}

func TestUserAndCommands(t *testing.T) {
	for _, name := range []string{firmware.RecorderUser, firmware.MediaUser} {
		if !strings.Contains(read(t, "holdfast.sysusers"), "\nu "+name+" ") {
			t.Errorf("no user %s in holdfast.sysusers", name)
		}
	}
	for unit, want := range map[string][2]string{
		"holdfast-guard.service":  {"", "/usr/bin/holdfastd lockdown --config /etc/holdfast/holdfast.toml"},
		"holdfast-record.service": {firmware.RecorderUser, "/usr/bin/holdfastd record --config /etc/holdfast/holdfast.toml"},
		"holdfast-media.service":  {firmware.MediaUser, "/usr/bin/holdfastd media --config /etc/holdfast/holdfast.toml"},
	} {
		text := read(t, unit)
		if got := strings.Join(values(text, "User"), " "); got != want[0] {
			t.Errorf("%s: user %q, want %q", unit, got, want[0])
		}
		if got := values(text, "ExecStart"); !slices.Equal(got, []string{want[1]}) {
			t.Errorf("%s: ExecStart %q", unit, got)
		}
		for _, never := range []string{"ExecStop", "ExecStopPost", "ExecReload"} {
			if got := values(text, never); len(got) > 0 {
				t.Errorf("%s: %s=%q", unit, never, got)
			}
		}
		if values(text, "StartLimitIntervalSec")[0] != "0" || values(text, "Restart")[0] != "always" || len(values(text, "WatchdogSec")) != 1 {
			t.Errorf("%s is not started again for ever, or has no watchdog", unit)
		}
	}
}
