package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
