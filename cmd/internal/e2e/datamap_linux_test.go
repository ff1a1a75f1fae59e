package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/firmware/autopilot/allow"
)

// dataFlow is a row of `holdfastd check --data-map --json`.
type dataFlow struct {
	Direction  string   `json:"direction"`
	What       string   `json:"what"`
	Where      string   `json:"where"`
	Who        string   `json:"who"`
	Recipients []string `json:"recipients"`
}

// dataMap prints the map in both forms, and wants every row of the one in the other.
func (b *board) dataMap() (flows []dataFlow) {
	b.t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(must(b.t, "holdfastd", "check", "--config", b.config(), "--data-map", "--json")), &m); err != nil {
		b.t.Fatal(err)
	}
	for _, rows := range m {
		if err := json.Unmarshal(rows, &flows); err == nil && len(flows) > 0 {
			break
		}
	}
	table := must(b.t, "holdfastd", "check", "--config", b.config(), "--data-map")
	if len(flows) < 10 {
		b.t.Fatalf("%d rows in the map: %v", len(flows), m)
	}
	for _, f := range flows {
		if !strings.Contains(table, f.Where) || !strings.Contains(table, f.What) {
			b.t.Errorf("the table lacks %+v", f)
		}
		for _, r := range f.Recipients {
			if !strings.HasPrefix(r, "age1") {
				b.t.Errorf("a recipient %q", r)
			}
		}
	}
	return flows
}

// mapped tells whether a row of the map is about a file.
func mapped(flows []dataFlow, path string) bool {
	return slices.ContainsFunc(flows, func(f dataFlow) bool {
		if f.Direction == "none" {
			return false
		}
		for dir := path; len(dir) > 1; dir = filepath.Dir(dir) { // a row may name a folder
			if ok, _ := filepath.Match(f.Where, dir); ok {
				return true
			}
		}
		return strings.HasPrefix(f.Where, path+" ") // "/dev/fc (the link on which ...)"
	})
}

// TestDataMap: what a run leaves in its folder, and what its processes have open while it lasts, is on
// the map that check prints of its configuration; what the map says is not collected, is not there.
func TestDataMap(t *testing.T) {
	t.Parallel()
	b := newBoard(t, "[policy]", `autopilot_log = "pull"`, "arming_veto = true", `autopilot_log_recipients = "desk.txt"`, "video = false",
		"[[share]]", `path = "ros"`, "[[share]]", `path = "pilot"`, `mode = "write"`)
	_, recipient := newIdentity(t)
	writeFile(t, b.path("desk.txt"), recipient+"\n")
	flows := b.dataMap()
	s := b.takeOff(allow.Options{Veto: true}, "--stack", "px4", "--duration", "9s", "--after", endless, "--log-size", "9000", "--old-logs", "1")
	b.openShare("ros")
	s.until("two pulled logs", func(r []*opened) bool { return events(r, "log_pulled", "") >= 2 })
	open := s.openFiles()
	s.finish()
	for _, path := range append(open, b.left()...) {
		if !mapped(flows, path) {
			t.Errorf("%s is not on the map", path)
		}
	}
	for _, f := range flows {
		if f.Direction == "kept" && strings.HasSuffix(f.Where, "A*.age") && !slices.Contains(f.Recipients, recipient) {
			t.Errorf("the autopilot's log: %+v", f)
		}
		if letter, ok := strings.CutPrefix(f.Where, "stream "); ok && f.Direction == "none" {
			if there, _ := filepath.Glob(filepath.Join(b.vault(), "*", "*", letter+"*.age")); len(there) > 0 {
				t.Errorf("%+v, and there are %v", f, there)
			}
		}
	}
	b.wantRows()
}

// openFiles are the files that the daemon's processes have open, and what shares and links lead to
// by the names that the configuration has for them.
func (s *sortie) openFiles() (paths []string) {
	names := map[string]string{}
	for _, name := range []string{"fc", "ros", "pilot"} {
		if to, err := filepath.EvalSymlinks(s.path(name)); err == nil {
			names[to] = s.path(name)
		}
	}
	pids := append(children(s.daemon.cmd.Process.Pid), s.daemon.cmd.Process.Pid)
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			to, err := os.Readlink(fd)
			switch {
			case err != nil, notData(to):
			case names[to] != "":
				paths = append(paths, names[to])
			default:
				paths = append(paths, strings.TrimSuffix(to, " (deleted)"))
			}
		}
	}
	if len(paths) == 0 {
		s.t.Log("nothing can be seen of what the processes have open")
	}
	return paths
}

// notData tells what is no file that data goes through: pipes, folders, the master of a terminal (its
// other end is what the map names), and what Go's runtime reads of the kernel's limits.
func notData(path string) bool {
	fi, err := os.Stat(path)
	return !strings.HasPrefix(path, "/") || err == nil && fi.IsDir() || path == "/dev/null" || strings.HasPrefix(path, "/proc/") ||
		strings.HasPrefix(path, "/sys/fs/cgroup/") || strings.HasSuffix(path, "/ptmx")
}

// left are the files of the board's folder that no test made. What holdfastd.toml names by itself,
// and the configuration, are not data.
func (b *board) left() (paths []string) {
	b.t.Helper()
	ours := []string{b.config(), b.operator, b.path("said.tlog"), b.path("heard.tlog"), b.path("kept")}
	err := filepath.WalkDir(b.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !slices.Contains(ours, path) && filepath.Dir(path) != b.path("kept") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) < 8 {
		b.t.Fatalf("%d files are left: %v", len(paths), err)
	}
	return paths
}

// wantRows wants check to have a row for each part, all of them well but the line that is gone.
func (b *board) wantRows() {
	b.t.Helper()
	r := run(b.t, "holdfastd", "check", "--config", b.config())
	for _, what := range []string{"policy", "share", "arming", "keys", "led", "button"} {
		if !strings.Contains(r.stdout, what) {
			b.t.Errorf("check has no row %q: %s%s", what, r.stdout, r.stderr)
		}
	}
	for _, words := range []string{b.path("ros"), b.path("pilot"), "desk.txt", "veto on"} {
		if !strings.Contains(r.stdout, words) {
			b.t.Errorf("check does not say %q: %s", words, r.stdout)
		}
	}
}
