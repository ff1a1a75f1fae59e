package host

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SwapOptions replaces what Swap does with the kernel.
type SwapOptions struct {
	// Off ends swapping to path. nil: swapoff(2).
	Off func(path string) error
}

// Swap keeps memory off every medium, compressed memory (zram) included: what lies there can
// be read as long as the power is on, and the kernel may write it out from there.
type Swap struct {
	tree
	off func(path string) error
}

// NewSwap makes the layer on the tree below root.
func NewSwap(root string, o SwapOptions) *Swap {
	if o.Off == nil {
		o.Off = swapoff
	}
	return &Swap{tree{root}, o.Off}
}

// swaps is absent where the kernel cannot swap at all.
const swaps = "proc/swaps"

// Detect returns ErrAbsent where nothing tells whether there is swap.
func (s *Swap) Detect() error {
	if !s.exists("proc/self") && !s.exists(swaps) {
		return fmt.Errorf("%w: /proc", ErrAbsent)
	}
	return nil
}

// Apply ends all swapping. It takes as long as bringing back what was swapped out; where
// memory does not suffice for that, the area stays in use and is named.
func (s *Swap) Apply() (changes []Change, err error) {
	areas, err := s.areas()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range areas {
		if err := s.off(a); err != nil {
			errs = append(errs, fmt.Errorf("swap on %s: %w", quoted(a), err))
			continue
		}
		changes = append(changes, Change{What: "swap", Old: a, New: "off"})
	}
	return changes, errors.Join(errs...)
}

// Verify names an area that is in use.
func (s *Swap) Verify() error {
	areas, err := s.areas()
	if err != nil {
		return err
	}
	if len(areas) > 0 {
		return fmt.Errorf("memory is swapped to %s", quoted(areas[0]))
	}
	return nil
}

func (s *Swap) areas() ([]string, error) {
	text, err := s.read(swaps)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseSwaps(text), nil
}

// parseSwaps reads /proc/swaps (proc(5)): a line of headings, then a line for each area, the
// path first. White space and backslashes in a path are written as three octal digits.
func parseSwaps(text string) (paths []string) {
	first := true
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if !first && len(fields) > 0 {
			paths = append(paths, strings.TrimSuffix(unescape(fields[0]), " (deleted)"))
		}
		first = false
	}
	return paths
}

// unescape undoes the kernel's seq_path: \040 is a blank.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if n, ok := octal(s[i:]); ok {
			b.WriteByte(n)
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) (byte, bool) {
	if len(s) < 4 || s[0] != '\\' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s[1:4]) {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = 8*n + int(c-'0')
	}
	return byte(n), n < 256
}

func swapoff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
