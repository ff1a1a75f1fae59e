package systemd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// systemdAnalyze leaves the test out where there is no systemd, or one that cannot look at
// files alone.
func systemdAnalyze(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd-analyze")
	}
	if out, err := exec.Command("systemd-analyze", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "--offline") {
		t.Skip("this systemd-analyze cannot look at files alone (it is older than 250)")
	}
}

// board makes a folder that stands for a board's root, with our units and the few of the
// system's that they name.
func board(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range files(t) {
		write(filepath.Join(units, name), read(t, name), 0o644)
	}
	for _, name := range []string{"sysinit", "basic", "shutdown", "network-pre", "multi-user", "local-fs", "local-fs-pre", "sockets", "timers", "paths", "slices"} {
		write(filepath.Join(units, name+".target"), "[Unit]\nDescription="+name+"\nDefaultDependencies=no\n", 0o644)
	}
	program := "[Service]\nExecStart=/usr/bin/holdfastd\n"
	write(filepath.Join(units, "other.service"), program+"CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_CHOWN\n", 0o644)
	// What "systemctl set-property" writes.
	write(filepath.Join(root, "etc/systemd/system/other.service.d/50-CapabilityBoundingSet.conf"), "[Service]\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF\n", 0o644)
	for _, name := range []string{"systemd-udevd", "systemd-sysctl", "plain", "user@1000"} {
		write(filepath.Join(units, regexp.MustCompile(`@.*`).ReplaceAllString(name, "@")+".service"), program, 0o644)
	}
	write(filepath.Join(root, "usr/bin/holdfastd"), "#!/bin/sh\n", 0o755)
	return root
}

// files lists what is installed as units, with their folders.
func files(t *testing.T) (names []string) {
	t.Helper()
	for _, pattern := range []string{"*.service", "*.d/*.conf"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		names = append(names, slices.DeleteFunc(found, func(n string) bool {
			fi, err := os.Stat(n)
			return err != nil || fi.IsDir()
		})...)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// values returns what a unit file assigns to a key, line by line.
func values(text, key string) (list []string) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			list = append(list, v)
		}
	}
	return list
}

func TestUnitsAreTaken(t *testing.T) {
	systemdAnalyze(t)
	for _, unit := range []string{"holdfast-guard.service", "holdfast-record.service", "holdfast-media.service"} {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+board(t), unit).CombinedOutput()
		if err != nil || strings.Contains(string(out), "holdfast") {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// row is a line of `systemd-analyze security --json`.
type row struct {
	Set   any    `json:"set"`
	Field string `json:"json_field"`
	Text  string `json:"description"`
}

func rate(t *testing.T, root, unit string, args ...string) (out []byte, err error) {
	t.Helper()
	args = append([]string{"security", "--no-pager", "--offline=true", "--root=" + root}, args...)
	return exec.Command("systemd-analyze", append(args, unit)...).CombinedOutput()
}

// TestRated holds the units to the bounds that we set ourselves, and docs/units.md to what
// systemd 252 says.
func TestRated(t *testing.T) {
	systemdAnalyze(t)
	version, err := exec.Command("systemd-analyze", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	docs := read(t, "../../docs/units.md")
	root := board(t)
	for unit, most := range map[string]float64{"holdfast-guard.service": 4, "holdfast-record.service": 1.5, "holdfast-media.service": 2} {
		out, err := rate(t, root, unit)
		m := regexp.MustCompile(`Overall exposure level for ` + regexp.QuoteMeta(unit) + `: ([0-9.]+) `).FindSubmatch(out)
		if err != nil || m == nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
			continue
		}
		got, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil || got > most {
			t.Errorf("%s: exposure %s, want %.1f at most", unit, m[1], most)
		}
		if want := fmt.Sprintf("| `%s` | %s |", unit, m[1]); strings.HasPrefix(string(version), "systemd 252 ") && !strings.Contains(docs, want) {
			t.Errorf("docs/units.md does not have the row %q", want)
		}
	}
}

// TestPowersAreTaken asks systemd itself what our drop-ins leave a service, also one that asks
// for more in a drop-in of its own.
func TestPowersAreTaken(t *testing.T) {
	systemdAnalyze(t)
	root := board(t)
	const admin, bpf, module, ptrace = "CapabilityBoundingSet_CAP_NET_ADMIN", "CapabilityBoundingSet_CAP_BPF", "CapabilityBoundingSet_CAP_SYS_MODULE", "CapabilityBoundingSet_CAP_SYS_PTRACE"
	const sys, raw = "CapabilityBoundingSet_CAP_SYS_ADMIN", "CapabilityBoundingSet_CAP_SYS_RAWIO"
	all := []string{admin, bpf, module, ptrace, sys, raw}
	for unit, keeps := range map[string][]string{
		"plain.service": nil, "other.service": nil, "user@1000.service": nil,
		"holdfast-record.service": nil, "holdfast-media.service": nil,
		"holdfast-guard.service": {admin, bpf, ptrace, sys},
		"systemd-udevd.service":  {admin, module, sys},
		"systemd-sysctl.service": {ptrace, sys},
	} {
		out, err := rate(t, root, unit, "--json=short")
		var rows []row
		if jsonErr := json.Unmarshal(out, &rows); err != nil || jsonErr != nil {
			t.Errorf("%s: %v, %v\n%s", unit, err, jsonErr, out)
			continue
		}
		for _, field := range all {
			i := slices.IndexFunc(rows, func(r row) bool { return r.Field == field })
			if i < 0 {
				t.Errorf("%s: nothing about %s", unit, field)
				continue
			}
			if taken := rows[i].Set == true; taken == slices.Contains(keeps, field) {
				t.Errorf("%s: %s taken: %v (%s)", unit, field, taken, rows[i].Text)
			}
		}
	}
}
