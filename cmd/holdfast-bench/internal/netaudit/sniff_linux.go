package netaudit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// sniffer counts every frame that the far side receives, on every link, whatever its
// ethertype, also on links that come later.
type sniffer struct {
	fd int

	mu    sync.Mutex
	news  chan struct{} // closed and replaced at each frame
	seen  map[string]*count
	names map[int]string // of links
}

// snifferBuffer holds what arrives while the sniffer counts, in bytes.
const snifferBuffer = 64 << 20

func newSniffer() (*sniffer, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return nil, fmt.Errorf("sniffer: %w", err)
	}
	s := &sniffer{fd: fd, news: make(chan struct{}), seen: map[string]*count{}, names: map[int]string{}}
	for option, value := range map[int]int{unix.PACKET_IGNORE_OUTGOING: 1, unix.PACKET_AUXDATA: 1} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, value); err != nil {
			return nil, fmt.Errorf("sniffer: %w", err)
		}
	}
	return s, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, snifferBuffer)
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// run counts until the process ends.
func (s *sniffer) run() error {
	frame, control := make([]byte, 64<<10), make([]byte, 256)
	for {
		n, cn, _, from, err := unix.Recvmsg(s.fd, frame, control, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sniffer: %w", err)
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		s.add(ll.Ifindex, frame[:n], tagged(control[:cn]))
	}
}

// tagged tells whether the kernel took an 802.1Q tag off (packet(7), PACKET_AUXDATA).
func tagged(control []byte) bool {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0
		}
	}
	return false
}

func (s *sniffer) add(index int, p []byte, vlan bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name(index)
	if name == "lo" {
		return
	}
	f := wire.Decode(p, vlan)
	if id := linkOwner(name); id != 0 {
		f.ID = id
	}
	key := place(f.ID, name)
	c := s.seen[key]
	if c == nil {
		c = newCount()
		s.seen[key] = c
	}
	c.Frames++
	c.Kinds[f.Kind]++
	c.Types[f.EtherType]++
	c.Links[name+" "+f.Kind]++
	close(s.news)
	s.news = make(chan struct{})
}

// place is where a frame is counted: with its attack, or with the link for those of nobody.
func place(id int, link string) string {
	if id != 0 {
		return strconv.Itoa(id)
	}
	return "link " + link
}

// linkOwner reads the attack from the name of a link of its own.
func linkOwner(name string) int {
	digits := strings.TrimPrefix(name, "f")
	if digits == name {
		return 0
	}
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	id, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return id
}

// name returns a link's, also when the link is gone. s.mu is held.
func (s *sniffer) name(index int) string {
	if name, ok := s.names[index]; ok {
		return name
	}
	name := fmt.Sprintf("gone-%d", index)
	if i, err := net.InterfaceByIndex(index); err == nil {
		name = i.Name
	}
	s.names[index] = name
	return name
}

// know notes the name of a link before its first frame.
func (s *sniffer) know(index int, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[index] = name
}

// wanted is what wait waits for.
type wanted struct {
	id    int
	link  string // empty: any
	kinds []string
}

func (s *sniffer) has(w wanted) bool {
	c := s.seen[strconv.Itoa(w.id)]
	if c == nil {
		return false
	}
	return slices.ContainsFunc(w.kinds, func(k string) bool {
		if w.link != "" {
			return c.Links[w.link+" "+k] > 0
		}
		return c.Kinds[k] > 0
	})
}

// wait returns when all came, or when the time is over, and tells which (by place in all).
func (s *sniffer) wait(all []wanted, limit time.Duration) (came []int) {
	end := time.After(limit)
	for {
		s.mu.Lock()
		came = came[:0]
		for i, w := range all {
			if s.has(w) {
				came = append(came, i)
			}
		}
		news := s.news
		s.mu.Unlock()
		if len(came) == len(all) {
			return came
		}
		select {
		case <-news:
		case <-end:
			return came
		}
	}
}

// report returns the counts since the last reset, and how many frames were lost.
func (s *sniffer) report(reset bool) (map[string]*count, int, error) {
	stats, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, 0, fmt.Errorf("sniffer: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	if reset {
		s.seen = map[string]*count{}
		return seen, int(stats.Drops), nil
	}
	out := map[string]*count{}
	for k, c := range seen {
		copied := *c
		copied.Kinds, copied.Types, copied.Links = clone(c.Kinds), clone(c.Types), clone(c.Links)
		out[k] = &copied
	}
	return out, int(stats.Drops), nil
}

func clone(m map[string]int) map[string]int {
	out := make(map[string]int, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
