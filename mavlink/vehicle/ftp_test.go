package vehicle_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/mavlink"
	"holdfast/mavlink/vehicle"
)

// Opcodes and error codes of https://mavlink.io/en/services/ftp.html.
const (
	opTerminate = 1
	opList      = 3
	opOpen      = 4
	opRead      = 5
	opWrite     = 7
	opRemove    = 8
	opChecksum  = 14
	opBurst     = 15
	opNak       = 129
	errSize     = 3
	errSession  = 4
	errEOF      = 6
	errUnknown  = 7
	errProtect  = 9
	errNotFound = 10
)

type ftpAnswer struct {
	seq    uint16
	op     byte
	of     byte
	done   bool
	offset uint32
	data   []byte
}

func (a ftpAnswer) refused(code byte) bool {
	return a.op == opNak && len(a.data) == 1 && a.data[0] == code
}

// ftpClient asks one thing at a time and asks again when no answer comes.
type ftpClient struct {
	b       *board
	seq     uint16
	session byte
	got     []ftpAnswer
	news    time.Duration
}

func newFTPClient(b *board) *ftpClient {
	c := &ftpClient{b: b}
	b.hear = func(_ *mavlink.Frame, m message.Message) {
		if m, ok := m.(*common.MessageFileTransferProtocol); ok && m.TargetSystem == 1 && m.TargetComponent == boardID {
			c.got = append(c.got, parseAnswer(m.Payload))
			c.news = b.at
		}
	}
	return c
}

func parseAnswer(p [251]uint8) ftpAnswer {
	return ftpAnswer{
		seq: binary.LittleEndian.Uint16(p[:]), op: p[3], of: p[5], done: p[6] == 1,
		offset: binary.LittleEndian.Uint32(p[8:]), data: bytes.Clone(p[12 : 12+int(p[4])]),
	}
}

func (c *ftpClient) send(op byte, offset uint32, size byte, data string) {
	m := &common.MessageFileTransferProtocol{TargetSystem: 1, TargetComponent: 1}
	binary.LittleEndian.PutUint16(m.Payload[:], c.seq)
	m.Payload[2], m.Payload[3], m.Payload[4] = c.session, op, size
	binary.LittleEndian.PutUint32(m.Payload[8:], offset)
	copy(m.Payload[12:], data)
	c.b.say(boardID, m)
}

// ask returns the answer to one request, repeated until there is one.
func (c *ftpClient) ask(op byte, offset uint32, size byte, data string) ftpAnswer {
	c.b.t.Helper()
	c.seq += 2
	for range 100 {
		c.got = nil
		c.send(op, offset, size, data)
		c.b.run(c.b.at+120*time.Millisecond, nil)
		for _, a := range c.got {
			if a.seq == c.seq+1 && a.of == op {
				return a
			}
		}
	}
	c.b.t.Fatalf("no answer to opcode %d", op)
	return ftpAnswer{}
}

func (c *ftpClient) named(op byte, name string) ftpAnswer {
	c.b.t.Helper()
	return c.ask(op, 0, byte(len(name)), name)
}

// list returns the entries of a folder, as many requests as it takes.
func (c *ftpClient) list(folder string) (all []string) {
	for {
		a := c.ask(opList, uint32(len(all)), byte(len(folder)), folder)
		if a.op == opNak {
			return all
		}
		all = append(all, strings.Split(strings.TrimSuffix(string(a.data), "\x00"), "\x00")...)
	}
}

// fetch opens a file, has it sent in bursts and reads the holes one by one.
func (c *ftpClient) fetch(name string) []byte {
	c.b.t.Helper()
	a := c.named(opOpen, name)
	if a.op == opNak {
		c.b.t.Fatalf("open %s: %v", name, a)
	}
	f := newHoles(int(binary.LittleEndian.Uint32(a.data)))
	for from, to := f.hole(); from < to && to == len(f.have); from, to = f.hole() {
		c.burst(f, from)
	}
	for from, to := f.hole(); from < to; from, to = f.hole() {
		if a := c.ask(opRead, uint32(from), byte(min(to-from, 239)), ""); a.op == opNak || !f.put(uint64(a.offset), a.data) {
			c.b.t.Fatalf("read at %d: %+v", from, a)
		}
	}
	if a := c.ask(opTerminate, 0, 0, ""); a.op == opNak {
		c.b.t.Errorf("terminate: %+v", a)
	}
	return f.data
}

func (c *ftpClient) burst(f *bytesWithHoles, from int) {
	c.seq += 5000
	c.got, c.news = nil, c.b.at
	c.send(opBurst, uint32(from), 239, "")
	c.b.run(c.b.at+20*time.Second, func() bool {
		for _, a := range c.got {
			if a.of == opBurst && a.op != opNak {
				f.put(uint64(a.offset), a.data)
			}
		}
		over := len(c.got) > 0 && (c.got[len(c.got)-1].op == opNak || c.got[len(c.got)-1].done)
		c.got = nil
		return over || c.b.at-c.news > 300*time.Millisecond
	})
}

func ftpBoard(t *testing.T, stack vehicle.Stack, loss float64) (*board, *ftpClient) {
	o := vehicle.Options{Stack: stack, Seed: 6, Duration: 13 * time.Second, After: 10 * time.Minute, FTP: true, LogSize: 40_000, LogRate: 3000}
	b := newBoard(t, o, vehicle.Loss{Probability: loss, Seed: 8})
	b.run(12*time.Second, nil)
	return b, newFTPClient(b)
}

func TestFTPFetch(t *testing.T) {
	for _, stack := range stacks {
		for _, p := range losses {
			t.Run(fmt.Sprintf("%v/%v", stack, p), func(t *testing.T) {
				b, c := ftpBoard(t, stack, p)
				for _, l := range b.v.Logs() {
					sameBytes(t, l.Path, c.fetch(l.Path), l.Data)
					// The checksum begins at 0 and is not inverted, unlike the usual one.
					want := ^crc32.Update(0xFFFFFFFF, crc32.IEEETable, l.Data)
					if a := c.named(opChecksum, l.Path); a.op == opNak || binary.LittleEndian.Uint32(a.data) != want {
						t.Errorf("checksum of %s: %+v, want %x", l.Path, a, want)
					}
				}
				if n := b.v.Counts(); n.FTPBytes < 80_000 || n.LogRequestsArmed != 0 {
					t.Errorf("%+v", n)
				}
			})
		}
	}
}

// walk lists all files below a folder.
func (c *ftpClient) walk(folder string) (files []string) {
	for _, e := range c.list(folder) {
		if dir, ok := strings.CutPrefix(e, "D"); ok {
			files = append(files, c.walk(strings.TrimSuffix(folder, "/")+"/"+dir)...)
			continue
		}
		name, size, _ := strings.Cut(e[1:], "\t")
		files = append(files, folder+"/"+name+" "+size)
	}
	return files
}

func TestFTPListAndRemove(t *testing.T) {
	for _, stack := range stacks {
		b, c := ftpBoard(t, stack, 0)
		var want []string
		for _, l := range b.v.Logs() {
			want = append(want, fmt.Sprintf("%s %d", l.Path, len(l.Data)))
		}
		root := map[vehicle.Stack]string{vehicle.ArduPilot: "/APM/LOGS", vehicle.PX4: "/fs/microsd/log"}[stack]
		if got := c.walk("/"); fmt.Sprint(got) != fmt.Sprint(want) || !strings.HasPrefix(want[0], root+"/") {
			t.Errorf("%v: %v, want %v", stack, got, want)
		}
		if got := c.walk(root); len(got) != 3 {
			t.Errorf("%v: %v", stack, got)
		}
		for len(b.v.Logs()) > 0 {
			left := len(b.v.Logs())
			if a := c.named(opRemove, b.v.Logs()[0].Path); a.op == opNak || len(b.v.Logs()) != left-1 {
				t.Fatalf("remove: %+v, %d left", a, len(b.v.Logs()))
			}
		}
		if a := c.named(opList, root); !a.refused(errEOF) {
			t.Errorf("list of an empty folder: %+v", a)
		}
	}
}

func TestFTPRefusals(t *testing.T) {
	for _, stack := range stacks {
		b, c := ftpBoard(t, stack, 0)
		px4 := stack == vehicle.PX4
		pick := func(copter, other byte) byte {
			if px4 {
				return other
			}
			return copter
		}
		name := b.v.Logs()[0].Path
		for _, tt := range []struct {
			what string
			a    ftpAnswer
			code byte
		}{
			{"read without a file", c.ask(opRead, 0, 100, ""), pick(errNotFound, errSession)},
			{"burst without a file", c.ask(opBurst, 0, 100, ""), pick(errNotFound, errSession)},
			{"no such folder", c.named(opList, "/etc"), errNotFound},
			{"no such file", c.named(opOpen, "/APM/LOGS/../../etc/passwd"), errNotFound},
			{"remove what is not there", c.named(opRemove, "/"), errNotFound},
			{"checksum of what is not there", c.named(opChecksum, name+"x"), errNotFound},
			{"write", c.named(opWrite, "x"), errProtect},
			{"odd opcode", c.named(99, "x"), pick(1, errUnknown)},
			{"size of 250", c.ask(opRead, 0, 239+1, ""), errSize},
			{"open", c.named(opOpen, name), 0},
			{"open a second", c.named(opOpen, name), pick(1, 5)},
			{"read behind the end", c.ask(opRead, 1<<30, 10, ""), errEOF},
			{"burst behind the end", c.ask(opBurst, 1<<30, 10, ""), errEOF},
		} {
			if tt.code != 0 && !tt.a.refused(tt.code) || tt.code == 0 && tt.a.op == opNak {
				t.Errorf("%v: %s: %+v, want %d", stack, tt.what, tt.a, tt.code)
			}
		}
		// A request that came twice is answered twice, and opens nothing twice.
		c.ask(opTerminate, 0, 0, "")
		first := c.named(opOpen, name)
		c.got = nil
		c.send(opOpen, 0, byte(len(name)), name)
		b.run(b.at+100*time.Millisecond, nil)
		if len(c.got) != 1 || fmt.Sprint(c.got[0]) != fmt.Sprint(first) {
			t.Errorf("%v: %+v, then %+v", stack, first, c.got)
		}
	}
}

func TestFTPOff(t *testing.T) {
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 9 * time.Second}, vehicle.Loss{})
		c := newFTPClient(b)
		c.send(opList, 0, 1, "/")
		if b.run(2*time.Second, nil); len(c.got) != 0 {
			t.Errorf("%v answers %+v", stack, c.got)
		}
	}
}
