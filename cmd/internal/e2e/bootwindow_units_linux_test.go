package e2e_test

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// systemdFiles are the units that the package installs, and where it puts them. Without the guard neither it
// is there nor what it needs of other units; nothing can start it.
func systemdFiles(t testing.TB, guard bool) map[string]string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(module, "scripts", "systemd"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, guardUnit)); err != nil {
		t.Skip("no units in scripts/systemd")
	}
	files := map[string]string{}
	for at, from := range tree(t, dir, "/") {
		switch name := path.Base(at); {
		case !guard && (name == guardUnit || strings.HasSuffix(path.Dir(at), ".d")):
		case strings.Contains(name, "sysusers"):
			files["/usr/lib/sysusers.d/holdfast.conf"] = from
		case strings.Contains(name, "tmpfiles"):
			files["/usr/lib/tmpfiles.d/holdfast.conf"] = from
		case strings.HasSuffix(name, ".service"), strings.HasSuffix(path.Dir(at), ".d"):
			files["/usr/lib/systemd/system"+at] = from
		}
	}
	// The package's script makes the user when it is installed; here that is done at the start.
	always := writeFile(t, filepath.Join(t.TempDir(), "always.conf"), "[Unit]\nConditionNeedsUpdate=\n")
	files["/etc/systemd/system/systemd-sysusers.service.d/always.conf"] = always
	return files
}

// systemdEnabled is what `systemctl enable` links, read from the [Install] sections of units: a
// target, a slash, the unit's file.
func systemdEnabled(t testing.TB, files map[string]string) (links []string) {
	t.Helper()
	for to, from := range files {
		if !strings.HasSuffix(to, ".service") {
			continue
		}
		for line := range strings.Lines(string(readFile(t, from))) {
			if targets, ok := strings.CutPrefix(strings.TrimSpace(line), "WantedBy="); ok {
				for _, target := range strings.Fields(targets) {
					links = append(links, target+"/"+to)
				}
			}
		}
	}
	return links
}
