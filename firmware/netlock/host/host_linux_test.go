package host_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/host"
)

// fake is a folder that stands for the root of a machine. No test in this package reads or
// writes the machine's own procfs and sysfs, but for TestKernel in a namespace of its own.
type fake struct {
	t    testing.TB
	root string
}

// newFake makes files from their contents. "-> x" makes a symbolic link to x; a name that ends
// in a slash makes a folder.
func newFake(t testing.TB, files map[string]string) fake {
	f := fake{t, t.TempDir()}
	for name, content := range files {
		f.put(name, content)
	}
	return f
}

func (f fake) put(name, content string) {
	f.t.Helper()
	path := filepath.Join(f.root, name)
	if strings.HasSuffix(name, "/") {
		f.must(os.MkdirAll(path, 0o755))
		return
	}
	f.must(os.MkdirAll(filepath.Dir(path), 0o755))
	if target, link := strings.CutPrefix(content, "-> "); link {
		f.must(os.Symlink(target, path))
		return
	}
	f.must(os.WriteFile(path, []byte(content), 0o644))
}

func (f fake) get(name string) string {
	f.t.Helper()
	p, err := os.ReadFile(filepath.Join(f.root, name))
	f.must(err)
	return strings.TrimSpace(string(p))
}

func (f fake) remove(name string) {
	f.t.Helper()
	f.must(os.RemoveAll(filepath.Join(f.root, name)))
}

func (f fake) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// layer is what all layers have.
type layer interface {
	Detect() error
	Apply() ([]host.Change, error)
	Verify() error
}

// applied applies and verifies, and returns what was changed, one line each.
func applied(t testing.TB, l layer) []string {
	t.Helper()
	changes, err := l.Apply()
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	verified(t, l, "")
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	return lines
}

// verified checks what Verify says; an empty want is for nothing wrong.
func verified(t testing.TB, l layer, want string) {
	t.Helper()
	got := ""
	if err := l.Verify(); err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("verify: got %q, want %q", got, want)
	}
	if strings.ContainsAny(got, "\n\r\x1b") {
		t.Errorf("verify: not one printable line: %q", got)
	}
}

// Where there is neither procfs nor sysfs every layer says so.
func TestDetect(t *testing.T) {
	full := map[string]string{"proc/sys/kernel/": "", "proc/self/": "", "proc/1/status": "", "sys/class/": ""}
	for name, make := range map[string]func(root string) layer{
		"sysctl":       func(r string) layer { return host.NewSysctl(r, host.SysctlOptions{}) },
		"core dumps":   func(r string) layer { return host.NewCoreDumps(r) },
		"swap":         func(r string) layer { return host.NewSwap(r, host.SwapOptions{}) },
		"rfkill":       func(r string) layer { return host.NewRfkill(r, host.RfkillOptions{}) },
		"usb":          func(r string) layer { return host.NewUSB(r, host.USBOptions{}) },
		"capabilities": func(r string) layer { return host.NewCapabilities(r, host.CapabilityOptions{}) },
	} {
		if err := make(t.TempDir()).Detect(); !errors.Is(err, host.ErrAbsent) {
			t.Errorf("%s: got %v, want ErrAbsent", name, err)
		}
		if err := make(newFake(t, full).root).Detect(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file that is no file, or without end, holds nobody up.
func TestReadOddFiles(t *testing.T) {
	f := newFake(t, map[string]string{
		"long": strings.Repeat("x", 3*host.MaxRead), "blank": " \n a b \n", "empty": "", "folder/": "", "loop": "-> loop",
	})
	f.must(unix.Mkfifo(filepath.Join(f.root, "pipe"), 0o600))
	for name, want := range map[string]string{"blank": "a b", "empty": "", "pipe": ""} {
		if got, err := host.ReadBelow(f.root, name); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if got, err := host.ReadBelow(f.root, "long"); err != nil || len(got) < host.MaxRead || len(got) > 4*host.MaxRead {
		t.Errorf("long: %d bytes, %v", len(got), err)
	}
	for name, want := range map[string]error{"folder": unix.EISDIR, "loop": unix.ELOOP, "none": fs.ErrNotExist} {
		if _, err := host.ReadBelow(f.root, name); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}
