package host_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/host"
)

const swapHeadings = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

var swapTables = []struct {
	name, text string
	want       []string
}{
	{"nothing at all", "", nil},
	{"no area", swapHeadings, nil},
	{"file", swapHeadings + "/var/swap                               file\t\t102396\t\t0\t\t-2\n", []string{"/var/swap"}},
	{"zram and partition", swapHeadings + "/dev/zram0 partition 1 0 100\n/dev/mmcblk0p3 partition 1 0 -3\n", []string{"/dev/zram0", "/dev/mmcblk0p3"}},
	{"blank in the path", swapHeadings + "/a\\040b\\134c file 1 0 -2\n", []string{`/a b\c`}},
	{"removed file", swapHeadings + "/swap\\040(deleted) file 1 0 -2\n", []string{"/swap"}},
	{"no line feed", swapHeadings + "/x", []string{"/x"}},
	{"not octal", swapHeadings + "/x\\9\\777\\04 file 1 0 1\n", []string{`/x\9\777\04`}},
}

func TestParseSwaps(t *testing.T) {
	for _, tt := range swapTables {
		if got := host.ParseSwaps(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzParseSwaps(f *testing.F) {
	for _, tt := range swapTables {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n := len(host.ParseSwaps(text)); n > strings.Count(text, "\n") {
			t.Errorf("%d areas in %d lines", n, strings.Count(text, "\n")+1)
		}
	})
}

func TestSwap(t *testing.T) {
	f := newFake(t, map[string]string{"proc/self/": "", "proc/swaps": swapHeadings + "/dev/zram0 partition 1 0 100\n/var/swap file 1 0 -2\n"})
	refuse := map[string]error{"/var/swap": unix.ENOMEM}
	var called []string
	off := func(path string) error {
		called = append(called, path)
		if err := refuse[path]; err != nil {
			return err
		}
		var rest []string
		for line := range strings.Lines(f.get("proc/swaps") + "\n") {
			if !strings.HasPrefix(line, path+" ") {
				rest = append(rest, line)
			}
		}
		f.put("proc/swaps", strings.Join(rest, ""))
		return nil
	}
	s := host.NewSwap(f.root, host.SwapOptions{Off: off})
	verified(t, s, "memory is swapped to /dev/zram0")
	changes, err := s.Apply()
	if !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), "swap on /var/swap: ") {
		t.Errorf("apply: %v", err)
	}
	if len(changes) != 1 || changes[0].Old != "/dev/zram0" {
		t.Errorf("changes: %v", changes)
	}
	verified(t, s, "memory is swapped to /var/swap")
	delete(refuse, "/var/swap")
	if got := applied(t, s); len(got) != 1 || !slices.Equal(called, []string{"/dev/zram0", "/var/swap", "/var/swap"}) {
		t.Errorf("changes %q, calls %q", got, called)
	}
}

// A kernel that cannot swap has no such file.
func TestNoSwap(t *testing.T) {
	s := host.NewSwap(newFake(t, map[string]string{"proc/self/": ""}).root, host.SwapOptions{Off: func(string) error { return unix.EPERM }})
	if got := applied(t, s); s.Detect() != nil || len(got) != 0 {
		t.Errorf("%q", got)
	}
}
