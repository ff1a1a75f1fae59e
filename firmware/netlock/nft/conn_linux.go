package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Layers of this package, as the lock's reports name them.
const (
	LayerInet   = "nft-inet"
	LayerARP    = "nft-arp"
	LayerBridge = "nft-bridge"
	LayerNetdev = "nft-netdev"
)

// socketBytes bounds a batch and the answers to it: 100 links need about 300 KiB.
const socketBytes = 4 << 20

// errSilent: the kernel gave no answer to a batch.
var errSilent = errors.New("nf_tables gave no answer")

// kernel is nf_tables. Tests put another one in its place.
type kernel interface {
	// batch does all of msgs or nothing.
	batch(msgs []message) error
	// dump asks for the objects of a family; attrs may narrow it.
	dump(kind uint16, family uint8, attrs []byte) ([]netlink.Message, error)
	// generation changes with each batch of anybody.
	generation() (uint32, error)
	// port tells which owned tables are this one's.
	port() uint32
	Close() error
}

// message is one request of a batch.
type message struct {
	kind   uint16 // unix.NFT_MSG_*
	flags  netlink.HeaderFlags
	family uint8
	attrs  []byte
	what   string // what it is about, for errors
	link   string // the link that it needs
}

// batchError is the first refusal of a batch.
type batchError struct {
	msg   message
	errno unix.Errno
}

func (e *batchError) Error() string { return e.msg.what + ": " + e.errno.Error() }
func (e *batchError) Unwrap() error { return e.errno }

// sockets are two connections: batches go through own alone, because the kernel knows the
// owner of a table by it.
type sockets struct {
	own, ask *netlink.Conn
}

func dial() (kernel, error) {
	own, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nf_tables: %w", err)
	}
	ask, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nf_tables: %w", err), own.Close())
	}
	s := &sockets{own, ask}
	if err := errors.Join(own.SetReadBuffer(socketBytes), own.SetWriteBuffer(socketBytes)); err != nil {
		return nil, errors.Join(fmt.Errorf("nf_tables: %w", err), s.Close())
	}
	return s, nil
}

func (s *sockets) port() uint32 { return s.own.PID() }

func (s *sockets) Close() error { return errors.Join(s.own.Close(), s.ask.Close()) }

func (s *sockets) dump(kind uint16, family uint8, attrs []byte) ([]netlink.Message, error) {
	return s.ask.Execute(netlink.Message{
		Header: header(kind, netlink.Request|netlink.Dump),
		Data:   append(genmsg(family, 0), attrs...),
	})
}

func (s *sockets) generation() (uint32, error) {
	answer, err := s.ask.Execute(netlink.Message{
		Header: header(unix.NFT_MSG_GETGEN, netlink.Request),
		Data:   genmsg(unix.AF_UNSPEC, 0),
	})
	if err != nil {
		return 0, err
	}
	var id uint32
	for _, m := range answer {
		err = eachAttr(m, func(a *netlink.AttributeDecoder) {
			if a.Type() == unix.NFTA_GEN_ID {
				id = a.Uint32()
			}
		})
	}
	return id, err
}

// batch asks for one answer only, of the last message: the kernel reports a refused message in
// any case.
func (s *sockets) batch(msgs []message) error {
	if len(msgs) == 0 {
		return nil
	}
	wire := make([]netlink.Message, 0, len(msgs)+2)
	wire = append(wire, edge(unix.NFNL_MSG_BATCH_BEGIN))
	for i, m := range msgs {
		flags := netlink.Request | m.flags
		if i == len(msgs)-1 {
			flags |= netlink.Acknowledge
		}
		wire = append(wire, netlink.Message{Header: header(m.kind, flags), Data: append(genmsg(m.family, 0), m.attrs...)})
	}
	wire = append(wire, edge(unix.NFNL_MSG_BATCH_END))
	sent, err := s.own.SendMessages(wire)
	if err != nil {
		return fmt.Errorf("nf_tables: %w", err)
	}
	return s.answer(msgs, sent)
}

// answer reads what the kernel answered to sent. It has done so within the send, so all
// answers lie in the socket; none is left there for the next batch.
func (s *sockets) answer(msgs []message, sent []netlink.Message) error {
	raw, err := s.own.SyscallConn()
	if err != nil {
		return fmt.Errorf("nf_tables: %w", err)
	}
	var result error = errSilent
	first := sent[0].Header.Sequence
	buf := make([]byte, 64<<10)
	control := raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return
			case err != nil:
				result = keep(result, fmt.Errorf("nf_tables: %w", err))
			default:
				result = keep(result, refusal(buf[:n], first, msgs))
			}
		}
	})
	if control != nil {
		return fmt.Errorf("nf_tables: %w", control)
	}
	return result
}

// keep returns the first refusal of a batch: had is it, unless nothing but acknowledgements or
// silence came before.
func keep(had, now error) error {
	switch {
	case now == errSilent, had != nil && had != errSilent:
		return had
	default:
		return now
	}
}

// refusal reads one answer: nil acknowledges, errSilent is an answer to something else.
func refusal(p []byte, first uint32, msgs []message) error {
	if len(p) < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(p[4:]) != unix.NLMSG_ERROR {
		return errSilent
	}
	code := int32(binary.NativeEndian.Uint32(p[unix.SizeofNlMsghdr:]))
	at := int64(binary.NativeEndian.Uint32(p[8:]) - first) // place in the batch; numbers may wrap
	switch {
	case at > int64(len(msgs))+1:
		return errSilent
	case code == 0:
		return nil
	case at == 0 || at > int64(len(msgs)):
		return &batchError{message{what: "nf_tables"}, unix.Errno(-code)}
	}
	return &batchError{msgs[at-1], unix.Errno(-code)}
}

func edge(kind uint16) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request},
		Data:   genmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
	}
}

func header(kind uint16, flags netlink.HeaderFlags) netlink.Header {
	return netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: flags}
}

// genmsg is struct nfgenmsg.
func genmsg(family uint8, resource uint16) []byte {
	return []byte{family, unix.NFNETLINK_V0, byte(resource >> 8), byte(resource)}
}

// eachAttr calls f for each attribute of m, which follow a nfgenmsg. Numbers are big-endian.
func eachAttr(m netlink.Message, f func(*netlink.AttributeDecoder)) error {
	if len(m.Data) < 4 {
		return fmt.Errorf("nf_tables: %d bytes of message", len(m.Data))
	}
	return attributes(m.Data[4:], f)
}

func attributes(p []byte, f func(*netlink.AttributeDecoder)) error {
	a, err := netlink.NewAttributeDecoder(p)
	if err != nil {
		return err
	}
	a.ByteOrder = binary.BigEndian
	for a.Next() {
		f(a)
	}
	return a.Err()
}
