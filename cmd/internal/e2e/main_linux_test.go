package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// module is where the go command runs: the root of the module, seen from this package.
const module = "../../.."

// bin is the folder of the programs under test, and of stock age.
var bin string

// long asks for the long form of every battery.
var long = os.Getenv("HOLDFAST_LONG") == "1"

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "holdfast-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin = dir
	if err := buildPrograms(dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// buildPrograms builds as make build does: without C, with keys wiped from memory.
func buildPrograms(dir string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/holdfastd", "./cmd/holdfast", "./cmd/holdfast-bench", "filippo.io/age/cmd/age")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// waitFor polls cond until it holds, and fails the test when it does not within timeout. Real
// processes and devices are on the other side, so there is no clock to inject.
func waitFor(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	if !eventually(timeout, cond) {
		t.Fatalf("not within %v: %s", timeout, what)
	}
}

// eventually polls cond each 10 ms until it holds or timeout is over.
func eventually(timeout time.Duration, cond func() bool) bool {
	deadline := time.After(timeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			return cond()
		}
	}
	return true
}

// result is how a program ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs one of the programs to its end.
func run(t testing.TB, name string, args ...string) result {
	t.Helper()
	return runIn(t, "", nil, name, args...)
}

// runIn is run in a folder, with something on standard input.
func runIn(t testing.TB, dir string, stdin []byte, name string, args ...string) result {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, strings.NewReader(string(stdin)), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must runs a program that has to end with 0, and returns what it printed.
func must(t testing.TB, name string, args ...string) string {
	t.Helper()
	r := run(t, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d: %s", name, strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

func writeFile(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
