package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/mavlink/serial"
)

const (
	// dialTimeout is far above what loopback takes, and short beside the pauses between tries.
	dialTimeout = 2 * time.Second
	// shortest is the wait of a Read that is given none: a deadline that has passed would end
	// a Read without looking for bytes.
	shortest = time.Millisecond
	// writeWait is the longest that a Write waits for room, as with a serial line.
	writeWait = time.Second
	// udpBuffer holds what comes in while the reader is busy: some 4 s at 1 MB/s. The system
	// may grant less.
	udpBuffer = 4 << 20
	// maxDatagram is the largest payload of UDP. A read with less room cuts a datagram off.
	maxDatagram = 1<<16 - 1
)

// tcpSource is the stream of one connection.
type tcpSource struct{ conn *net.TCPConn }

func openTCP(addr netip.AddrPort) (Source, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: -1} // loopback needs no probes
	// Without a local address: an empty one makes Go call bind, which bench mode denies.
	conn, err := dialer.DialContext(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("open tcp:%s: %w", addr, err)
	}
	return &tcpSource{conn.(*net.TCPConn)}, nil
}

func (s *tcpSource) Read(b []byte, wait time.Duration) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(max(wait, shortest))); err != nil {
		return 0, netError(err)
	}
	n, err := s.conn.Read(b)
	if n > 0 {
		return n, nil // an error, if there was one, comes again
	}
	return 0, netError(err)
}

// Write sends b, in at most writeWait.
func (s *tcpSource) Write(b []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return 0, netError(err)
	}
	n, err := s.conn.Write(b)
	return n, writeError(err)
}

func (s *tcpSource) Close() error                          { return closeError(s.conn.Close()) }
func (s *tcpSource) LineErrors() (serial.LineErrors, bool) { return serial.LineErrors{}, false }
func (s *tcpSource) HoldsBack() bool                       { return true }

// udpSource is the stream of all datagrams that reach one port.
type udpSource struct {
	conn *net.UDPConn
	buf  []byte // one datagram, made when the first Read has less room than that
	rest []byte // what of it was not handed out yet
	peer atomic.Pointer[netip.AddrPort]
}

func openUDP(addr netip.AddrPort) (Source, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("open udp:%s: %w", addr, err)
	}
	_ = conn.SetReadBuffer(udpBuffer) // works with less too
	return &udpSource{conn: conn}, nil
}

func (s *udpSource) Read(b []byte, wait time.Duration) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	// Also tells whether the source was closed while a datagram was handed out in pieces.
	if err := s.conn.SetReadDeadline(time.Now().Add(max(wait, shortest))); err != nil {
		return 0, netError(err)
	}
	if len(s.rest) == 0 {
		if len(b) >= maxDatagram {
			return s.receive(b)
		}
		if s.buf == nil {
			s.buf = make([]byte, maxDatagram)
		}
		n, err := s.receive(s.buf)
		if err != nil {
			return 0, err
		}
		s.rest = s.buf[:n]
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// receive reads the next datagram that is not empty, within the deadline that is set.
func (s *udpSource) receive(b []byte) (int, error) {
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(b)
		if n > 0 {
			if p := s.peer.Load(); p == nil || *p != from {
				s.peer.Store(&from)
			}
			return n, nil
		}
		if err != nil {
			return 0, netError(err)
		}
	}
}

// Write sends b as one datagram to whoever sent the last one; ErrHangup where nobody has, or where
// that was not on this machine.
func (s *udpSource) Write(b []byte) (int, error) {
	to := s.peer.Load()
	if to == nil || !to.Addr().Unmap().IsLoopback() {
		return 0, ErrHangup
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return 0, netError(err)
	}
	n, err := s.conn.WriteToUDPAddrPort(b, *to)
	return n, writeError(err)
}

func (s *udpSource) Close() error                          { return closeError(s.conn.Close()) }
func (s *udpSource) LineErrors() (serial.LineErrors, bool) { return serial.LineErrors{}, false }
func (s *udpSource) HoldsBack() bool                       { return false }

// Datagrams tells that each Read gives one datagram, however much waits.
func (s *udpSource) Datagrams() bool { return true }

// netError turns an error of package net into those that Source promises.
func netError(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrSilent
	case errors.Is(err, net.ErrClosed):
		return os.ErrClosed
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.ECONNABORTED),
		errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EPIPE):
		return ErrHangup
	}
	return err
}

// writeError is netError for a Write: there is no silence then, only a line that takes nothing.
func writeError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return netError(err)
}

// closeError names a second Close as package os does.
func closeError(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return os.ErrClosed
	}
	return err
}
