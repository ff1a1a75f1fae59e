package serial

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A pseudo-terminal has no counters and is not marked exclusive, so what a UART needs of both
// is tested below the surface.

func TestCountersSince(t *testing.T) {
	if size := unsafe.Sizeof(icounter{}); size != 80 {
		t.Fatalf("struct serial_icounter_struct has 20 ints, not %d bytes", size)
	}
	base := icounter{Overrun: math.MaxInt32, Frame: 7, Parity: -1, RX: 9}
	now := icounter{Overrun: math.MinInt32 + 4, BufOverrun: 2, Frame: 10, Parity: 3, Brk: 1, RX: 99}
	want := LineErrors{Overrun: 5, BufOverrun: 2, Framing: 3, Parity: 4, Break: 1}
	if got := now.since(base); got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestKeepDamaged(t *testing.T) {
	// keepDamaged is tested against a line as tarm leaves it.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &unix.Termios{Iflag: unix.IGNPAR, Cflag: unix.B57600 | unix.CS8}); err != nil {
		t.Fatal(err)
	}
	if err := keepDamaged(fd); err != nil {
		t.Fatal(err)
	}
	set, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if set.Iflag != 0 || set.Cflag&unix.CBAUD != unix.B57600 {
		t.Fatalf("iflag %#x cflag %#x", set.Iflag, set.Cflag)
	}
}

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]int{
		-time.Second: 0, 0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2,
		math.MaxInt64: math.MaxInt32,
	} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v: %d, want %d", d, got, want)
		}
	}
}
