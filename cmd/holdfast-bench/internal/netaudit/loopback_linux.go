package netaudit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Traffic inside the board must go on under every lock: an autopilot library talks to its
// companion by UDP, others by TCP.

// echoes are programs of the board that answer on loopback.
type echoes struct {
	udp net.PacketConn
	tcp []net.Listener
}

func (c *crew) loopback(when string) error {
	if c.echoes == nil {
		e, err := newEchoes()
		if err != nil {
			return fmt.Errorf("loopback %s: %w", when, err)
		}
		c.echoes = e
	}
	err := errors.Join(roundTrip("udp", c.echoes.udp.LocalAddr().String()), roundTrip("tcp", c.echoes.tcp[0].Addr().String()), roundTrip("tcp", c.echoes.tcp[1].Addr().String()))
	if err != nil {
		return fmt.Errorf("loopback %s: %w", when, err)
	}
	return nil
}

func newEchoes() (*echoes, error) {
	e := &echoes{}
	var err error
	if e.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go func() {
		p := make([]byte, 512)
		for {
			n, from, err := e.udp.ReadFrom(p)
			if err != nil {
				return
			}
			_, _ = e.udp.WriteTo(p[:n], from) // the asking end notices
		}
	}()
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return nil, err
		}
		e.tcp = append(e.tcp, l)
		go echoTCP(l)
	}
	return e, nil
}

func echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // the asking end notices
		}()
	}
}

// roundTrip sends a heartbeat and wants it back.
func roundTrip(network, at string) error {
	c, err := net.DialTimeout(network, at, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	const heartbeat = "\xfd\x09\x00\x00\x00\x01\x01\x00\x00\x00"
	if _, err := io.WriteString(c, heartbeat); err != nil {
		return err
	}
	p := make([]byte, len(heartbeat))
	if _, err := io.ReadFull(c, p); err != nil {
		return fmt.Errorf("%s %s: %w", network, at, err)
	}
	if string(p) != heartbeat {
		return fmt.Errorf("%s %s: other bytes came back", network, at)
	}
	return nil
}
