// Package link opens the ways in which MAVLink bytes reach a recorder, by the device strings of
// holdfast.toml: a path is a serial line (package serial); for the bench there are also
//
//	tcp:IP:PORT  dials, as for ArduPilot's simulator
//	udp:IP:PORT  listens; the bytes of the datagrams, in order of arrival, are the stream
//	file:PATH    a raw byte stream in a regular file, read to its end
//
// The package runs on Linux only. It resolves no name and it reaches loopback only; what is sent is
// what a caller gives to Write, and a file takes none. It opens no socket but for a tcp: or udp: device, so a recorder on a serial line
// works on a kernel that has none. It reopens nothing; whoever reads decides when to try again.
package link

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"holdfast/mavlink/serial"
)

// The errors of package serial are those of every source.
var (
	// ErrSilent says that no byte came within the time that Read was given.
	ErrSilent = serial.ErrSilent
	// ErrHangup says that the line is gone: unplugged, or closed or reset by the other end.
	ErrHangup = serial.ErrHangup
	// ErrBusy says that somebody else holds the serial device.
	ErrBusy = serial.ErrBusy
	// ErrBaud says that the rate of a serial device is none that can be set.
	ErrBaud = serial.ErrBaud
	// ErrNotTTY says that the path names something that is not a serial line.
	ErrNotTTY = serial.ErrNotTTY
)

var (
	// ErrDevice says that a device string is none of the four kinds.
	ErrDevice = errors.New("not a device: want a path, tcp:IP:PORT, udp:IP:PORT or file:PATH")
	// ErrAddress says that what follows tcp: or udp: is not an IP literal with a port from 1 to 65535.
	ErrAddress = errors.New("not an IP address with a port")
	// ErrNotLoopback says that an address would leave the board.
	ErrNotLoopback = errors.New("not a loopback address")
	// ErrNotFile says that the path after file: is not a regular file.
	ErrNotFile = errors.New("not a regular file")
)

// Kinds of device, as Kind returns them.
const (
	KindSerial = "serial"
	KindTCP    = "tcp"
	KindUDP    = "udp"
	KindFile   = "file"
)

// Source is an open way in. It belongs to one reader goroutine; the other methods may be called
// from any. Close it when done.
type Source interface {
	// Read reads what has come in and waits for the first byte no longer than wait. It returns
	// n > 0 with a nil error, or 0 with ErrSilent, ErrHangup, os.ErrClosed after Close,
	// io.EOF for good at the end of a file (never for another kind), or another error.
	Read(b []byte, wait time.Duration) (int, error)
	// Close ends a blocked Read. A second Close returns os.ErrClosed.
	Close() error
	// LineErrors returns the counters of the line, or false where there are none.
	LineErrors() (serial.LineErrors, bool)
	// HoldsBack says whether unread bytes wait at the sender without loss.
	HoldsBack() bool
}

// A Source that can be sent to is an io.Writer too: a serial line, tcp: and udp:. Write may be
// called from any goroutine, and waits for room at most a second.
var (
	_ io.Writer = (*serial.Port)(nil)
	_ io.Writer = (*tcpSource)(nil)
	_ io.Writer = (*udpSource)(nil)
)

var _ Source = (*serial.Port)(nil)

// Open opens device; baud (bits a second) is for serial lines only. Errors are those of
// Check, those of serial.Open, and those of the system, wrapped: fs.ErrNotExist for a missing
// file, ErrNotFile, a *net.OpError where nobody listens or the address is in use.
func Open(device string, baud int) (Source, error) {
	kind, rest, addr, err := parse(device)
	if err != nil {
		return nil, err
	}
	switch kind {
	case KindTCP:
		return openTCP(addr)
	case KindUDP:
		return openUDP(addr)
	case KindFile:
		return openFile(rest)
	}
	port, err := serial.Open(rest, baud)
	if err != nil {
		return nil, err // not port: a nil *Port in a Source is not nil
	}
	return port, nil
}

// Kind returns which kind of device a string names, or the error of Check.
func Kind(device string) (string, error) {
	kind, _, _, err := parse(device)
	return kind, err
}

// Check returns nil if device is well formed, or ErrDevice, ErrAddress or ErrNotLoopback,
// wrapped. It opens nothing, so the device need not be there.
func Check(device string) error {
	_, _, _, err := parse(device)
	return err
}

// parse takes a device string apart: rest is the path of a serial line or file, addr the
// address of the others.
func parse(device string) (kind, rest string, addr netip.AddrPort, err error) {
	kind, rest = split(device)
	switch kind {
	case KindTCP, KindUDP:
		addr, err = parseAddr(rest)
	case KindSerial, KindFile:
		if rest == "" || strings.ContainsRune(rest, 0) {
			err = ErrDevice
		}
	default:
		err = ErrDevice
	}
	if err != nil {
		return "", "", netip.AddrPort{}, fmt.Errorf("device %q: %w", device, err)
	}
	return kind, rest, addr, nil
}

// split finds the kind. Names in /dev/serial/by-path have colons of their own, so a string
// with a slash before its first colon is a path.
func split(device string) (kind, rest string) {
	scheme, rest, found := strings.Cut(device, ":")
	if !found || strings.Contains(scheme, "/") {
		return KindSerial, device
	}
	if scheme == KindSerial {
		return "", "" // no such prefix: a path stands for itself
	}
	return scheme, rest
}

// parseAddr reads a loopback address. No name is looked up, that of a zone included.
func parseAddr(s string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(s)
	if err != nil || addr.Port() == 0 || addr.Addr().Zone() != "" {
		return netip.AddrPort{}, ErrAddress
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if !addr.Addr().IsLoopback() {
		return netip.AddrPort{}, ErrNotLoopback
	}
	return addr, nil
}
