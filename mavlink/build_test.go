package mavlink_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/x25"

	"holdfast/mavlink"
)

// Ids that the table does not hold.
const (
	unknownV1 = 12
	unknownV2 = 0xABCDEF
)

// sum is an independent checksum: gomavlib's, byte by byte.
func sum(p []byte, extra byte) uint16 {
	h := x25.New()
	h.Write(p)
	h.Write([]byte{extra})
	return h.Sum16()
}

func v1(id, seq byte, payload []byte) []byte {
	raw := append([]byte{0xFE, byte(len(payload)), seq, 1, 1, id}, payload...)
	extra, _ := mavlink.CRCExtra(uint32(id))
	return binary.LittleEndian.AppendUint16(raw, sum(raw[1:], extra))
}

func v2(id uint32, seq, flags byte, payload []byte) []byte {
	raw := append([]byte{0xFD, byte(len(payload)), flags, 0, seq, 1, 1, byte(id), byte(id >> 8), byte(id >> 16)}, payload...)
	extra, _ := mavlink.CRCExtra(id)
	raw = binary.LittleEndian.AppendUint16(raw, sum(raw[1:], extra))
	if flags&1 != 0 {
		raw = append(raw, "signature-13b"...)
	}
	return raw
}

// broken returns raw with a wrong checksum.
func broken(raw []byte) []byte {
	raw = bytes.Clone(raw)
	raw[len(raw)-1] ^= 0x55
	return raw
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// event is a frame or one noise run, as a test wants to see it.
type event struct {
	frame  bool
	known  bool
	reason mavlink.Reason
	offset int64
	data   string
	at     time.Duration
}

func (e event) String() string {
	if e.frame {
		return fmt.Sprintf("frame(known=%v) %d %x", e.known, e.offset, e.data)
	}
	return fmt.Sprintf("%v %d %x", e.reason, e.offset, e.data)
}

// collector keeps copies of all it is given, and complains of what no Scanner may do.
type collector struct {
	events []event
	next   int64
	errs   []string
}

func (c *collector) check(offset int64, n int) {
	if offset != c.next || n == 0 {
		c.errs = append(c.errs, fmt.Sprintf("%d bytes at %d, want offset %d", n, offset, c.next))
	}
	c.next = offset + int64(n)
}

func (c *collector) Frame(f *mavlink.Frame) {
	c.check(f.Offset, len(f.Raw))
	c.events = append(c.events, event{frame: true, known: f.Known, offset: f.Offset, data: string(f.Raw), at: f.At})
}

func (c *collector) Noise(n *mavlink.Noise) {
	c.check(n.Offset, len(n.Data))
	if len(n.Data) > mavlink.MaxNoise {
		c.errs = append(c.errs, fmt.Sprintf("noise of %d bytes", len(n.Data)))
	}
	c.events = append(c.events, event{reason: n.Reason, offset: n.Offset, data: string(n.Data), at: n.At})
}

// bytes puts everything together again.
func (c *collector) bytes() []byte {
	var b []byte
	for _, e := range c.events {
		b = append(b, e.data...)
	}
	return b
}

// perByte describes each byte, so that two outcomes compare whatever the run splitting.
func (c *collector) perByte() []string {
	var out []string
	for _, e := range c.events {
		if e.frame {
			out = append(out, e.String())
			continue
		}
		for i := range len(e.data) {
			out = append(out, fmt.Sprintf("%v %d %x", e.reason, e.offset+int64(i), e.data[i]))
		}
	}
	return out
}

// scanAll writes data in one piece and ends.
func scanAll(data []byte) *collector {
	c := new(collector)
	s := mavlink.NewScanner(c)
	s.Write(0, data)
	s.End(0)
	return c
}
