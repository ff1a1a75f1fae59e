package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/cmd/holdfast-bench/internal/netaudit"
	"holdfast/cmd/internal/cli"
)

// runAudit runs the command in this process.
func runAudit(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	root := newRoot()
	var out, errs bytes.Buffer
	root.SetArgs(append([]string{"audit"}, args...))
	root.SetOut(&out)
	root.SetErr(&errs)
	code = cli.Main(root)
	return code, out.String(), errs.String()
}

// TestAuditTamper: the table, the list of what nobody can notice, and the files of -o.
func TestAuditTamper(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	code, stdout, stderr := runAudit(t, "--tamper", "--faults", "--seed", "3", "-o", dir)
	if code != cli.OK || stderr != "" {
		t.Fatalf("code %d, stderr %q\n%s", code, stderr, stdout)
	}
	for _, want := range []string{"edit a leaf", "graft another board's", "cannot be noticed: ", "not built yet, not run: faults\n", "\nok: everything is as it must be\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	kept, err := os.ReadFile(filepath.Join(dir, "audit.txt"))
	if err != nil || string(kept) != stdout {
		t.Errorf("audit.txt: %v, %d bytes, printed %d", err, len(kept), len(stdout))
	}
	object, err := os.ReadFile(filepath.Join(dir, "audit.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r auditResult
	if err := json.Unmarshal(object, &r); err != nil || !r.OK || r.Seed != 3 || len(r.Batteries) != 1 || len(r.Batteries[0].Cases) < 300 {
		t.Errorf("audit.json: %v, ok %v, seed %d, %d batteries", err, r.OK, r.Seed, len(r.Batteries))
	}
	vaults, err := filepath.Glob(filepath.Join(dir, "vaults", "*", "*", "LOG", "log.bin"))
	if err != nil || len(vaults) != 3 {
		t.Errorf("vaults kept: %q, %v", vaults, err)
	}
}

// TestAuditNetworkRights: without root the network battery says so, and is left out where
// nobody asked for it by name.
func TestAuditNetworkRights(t *testing.T) {
	as := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		c := exec.Command("/proc/self/exe", append([]string{"audit"}, args...)...)
		c.Env = append(os.Environ(), "BENCH_AS_PROGRAM=1")
		c.Stdout, c.Stderr = &stdout, &stderr
		if os.Geteuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		var exit *exec.ExitError
		if err := c.Run(); err != nil && !errors.As(err, &exit) {
			t.Skipf("no program as another user: %v", err)
		}
		return c.ProcessState.ExitCode(), stdout.String(), stderr.String()
	}
	code, stdout, stderr := as("--network")
	if code != cli.Error || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "needs root") {
		t.Errorf("code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, _ = as("--faults"); code != cli.Usage || stdout != "" {
		t.Errorf("what is not built: code %d, %q", code, stdout)
	}
}

// TestAuditNetworkReport: table, JSON and page of a result, through the command's own files.
func TestAuditNetworkReport(t *testing.T) {
	r := &auditResult{Network: &netaudit.Result{OK: true, Kernel: "6.0", Machine: "arm64", Repeats: 5,
		Rows: []netaudit.Row{{Number: 1, Group: "sockets", Name: "TCP", Plain: "open a connection", Cells: map[string]netaudit.Cell{}}}},
		LeftOut: []string{"network: needs root"}}
	b := r.Network.Battery()
	r.Batteries = append(r.Batteries, b)
	o := auditOptions{out: t.TempDir()}
	var out bytes.Buffer
	if err := o.report(r, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"network: all ", "Linux 6.0 (arm64); each race 5 times", "left out: network: needs root\n", "\nok: everything is as it must be\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	page, err := os.ReadFile(filepath.Join(o.out, "network.html"))
	if err != nil || !strings.Contains(string(page), "open a connection") {
		t.Errorf("page: %v, %d bytes", err, len(page))
	}
	object, err := os.ReadFile(filepath.Join(o.out, "audit.json"))
	var read auditResult
	if err != nil || json.Unmarshal(object, &read) != nil || read.Network == nil || read.Network.Kernel != "6.0" {
		t.Errorf("audit.json: %v, %s", err, object)
	}
}
