package serial

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// icounter is struct serial_icounter_struct of linux/serial.h, the answer to TIOCGICOUNT.
// The counts run from the start of the driver and wrap.
type icounter struct {
	CTS, DSR, RNG, DCD int32
	RX, TX             int32
	Frame, Overrun     int32
	Parity, Brk        int32
	BufOverrun         int32
	_                  [9]int32
}

func readCounters(fd int) (icounter, error) {
	var c icounter
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGICOUNT, uintptr(unsafe.Pointer(&c)))
	if errno != 0 {
		return icounter{}, errno
	}
	return c, nil
}

// since is what c counts beyond base; the subtraction is right over a wrap too.
func (c icounter) since(base icounter) LineErrors {
	return LineErrors{
		Overrun:    uint32(c.Overrun - base.Overrun),
		BufOverrun: uint32(c.BufOverrun - base.BufOverrun),
		Framing:    uint32(c.Frame - base.Frame),
		Parity:     uint32(c.Parity - base.Parity),
		Break:      uint32(c.Brk - base.Brk),
	}
}
