package e2e_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// module is where the go command runs: the root of the module, seen from this package.
const module = "../../.."

// bin is the folder of the programs under test, and of stock age.
var bin string

// long asks for the long form of every battery.
var long = os.Getenv("HOLDFAST_LONG") == "1"

func TestMain(m *testing.M) {
	if spec := os.Getenv(tryAgain); spec != "" {
		exfiltrate(spec)
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// builtIn is set in the second start of the tests, in a network namespace of their own.
const builtIn = "HOLDFAST_E2E_BIN"

// waitTogether has more tests run at once than there are processors, where nobody has said how many: most
// of their time they wait, for the seconds of a flight to pass.
func waitTogether() error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
}

func runTests(m *testing.M) (code int, err error) {
	if bin = os.Getenv(builtIn); bin != "" {
		if err := ownNetwork(); err != nil {
			return 1, err
		}
		if err := waitTogether(); err != nil {
			return 1, err
		}
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "holdfast-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin = dir
	if err := buildPrograms(dir); err != nil {
		return 1, err
	}
	if os.Geteuid() == 0 {
		return again(dir)
	}
	return m.Run(), nil
}

// again runs the tests in an empty network namespace: the programs under test can lock a
// machine's network, and whatever a test makes them do by mistake must not lock this one's.
func again(dir string) (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), builtIn+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	before := readHost()
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("a network namespace of the tests' own: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	if changed := differences(before, readHost()); len(changed) > 0 {
		return 1, fmt.Errorf("the tests have changed this machine: %s", strings.Join(changed, ", "))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// differences names what of a machine is not as it was. Routes of IPv6 carry counters of their use,
// and are left out.
func differences(before, after map[string]string) (changed []string) {
	for name, was := range before {
		if after[name] != was && !strings.HasSuffix(name, "ipv6_route") {
			changed = append(changed, name)
		}
	}
	for name := range after {
		if _, there := before[name]; !there {
			changed = append(changed, name)
		}
	}
	return changed
}

// ownNetwork checks that the namespace is an empty one, and switches its loopback on.
func ownNetwork() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	if len(links) != 1 || links[0].Attrs().Name != "lo" {
		return fmt.Errorf("%d links in what should be an empty network namespace", len(links))
	}
	return netlink.LinkSetUp(links[0])
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
