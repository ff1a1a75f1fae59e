package aplog

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"holdfast/storage/segment"
)

// TestRanges compares the set with a slow one.
func TestRanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		var s ranges
		var slow [200]bool
		for range 60 {
			from := rng.Int64N(190)
			to := from + rng.Int64N(10)
			if rng.IntN(10) == 0 {
				s.drop(from)
				clear(slow[:from])
			} else {
				s.add(from, to)
				for i := from; i < to; i++ {
					slow[i] = true
				}
			}
			checkRanges(t, &s, slow[:])
		}
	}
}

func checkRanges(t *testing.T, s *ranges, slow []bool) {
	t.Helper()
	for i := range s.r {
		if s.r[i].From >= s.r[i].To || i > 0 && s.r[i-1].To >= s.r[i].From {
			t.Fatalf("ranges %v", s.r)
		}
	}
	holes := map[int64]bool{}
	for _, h := range s.holes(0, int64(len(slow)), 1000) {
		for i := h.From; i < h.To; i++ {
			holes[i] = true
		}
	}
	for i, in := range slow {
		at := int64(i)
		if s.has(at, at+1) != in || holes[at] == in || (s.reach(at) > at) != in {
			t.Fatalf("byte %d: want %v, has %v, hole %v, reach %d in %v", i, in, s.has(at, at+1), holes[at], s.reach(at), s.r)
		}
	}
}

// TestRangesBound: a set takes no more ranges than it may, and stays right.
func TestRangesBound(t *testing.T) {
	var s ranges
	for i := range int64(maxRanges + 100) {
		if ok := s.add(i*2, i*2+1); ok != (i < maxRanges) {
			t.Fatalf("range %d: %v", i, ok)
		}
	}
	if !s.add(1, 2) || len(s.r) != maxRanges-1 {
		t.Errorf("%d ranges", len(s.r))
	}
}

// TestWindow puts a file together from pieces in any order.
func TestWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	want := make([]byte, 10_000)
	for i := range want {
		want[i] = byte(rng.Uint32())
	}
	w := newWindow(256)
	var got []byte
	for len(got) < len(want) {
		off := max(0, w.base-20) + rng.Int64N(300)
		if off >= int64(len(want)) {
			continue
		}
		w.put(off, want[off:min(off+rng.Int64N(40), int64(len(want)))])
		p := w.ready(1 + rng.Int64N(50))
		got = append(got, p...)
		w.move(w.base + int64(len(p)))
	}
	if !bytes.Equal(got, want) {
		t.Error("the file differs")
	}
}

// TestCRC: the checksum of FTP, against the table-driven one of the autopilots, in pieces.
func TestCRC(t *testing.T) {
	tab := crc32.MakeTable(0xEDB88320)
	var want, got uint32
	data := []byte("123456789, and what lies behind it")
	for _, b := range data {
		want = tab[byte(want)^b] ^ want>>8
	}
	for len(data) > 0 {
		n := min(5, len(data))
		got, data = crcFTP(got, data[:n]), data[n:]
	}
	if got != want {
		t.Errorf("%08x, want %08x", got, want)
	}
	if got := crcFTP(0, []byte("123456789")); got != 0x2DFD2D88 { // CRC-32 from 0 without inversion
		t.Errorf("check value %08x", got)
	}
}

// TestWalkers: messages are counted the same however the log is cut into pieces, and damage costs
// what it touches.
func TestWalkers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	flash := flashLog(500)
	for name, c := range map[string]struct {
		log  []byte
		make func() walker
	}{
		"dataflash": {flash, func() walker { return &flashWalker{} }},
		"ulog":      {uLog(500), func() walker { return newULogWalker() }},
	} {
		whole := c.make()
		whole.write(c.log)
		total := sum(whole.counts())
		if total != 503 {
			t.Errorf("%s: %d messages", name, total)
		}
		for range 50 {
			w := c.make()
			for p := c.log; len(p) > 0; {
				n := min(len(p), 1+rng.IntN(300))
				w.write(p[:n])
				p = p[n:]
			}
			if !equalCounts(w.counts(), whole.counts()) {
				t.Fatalf("%s: %v in pieces, %v whole", name, w.counts(), whole.counts())
			}
		}
	}
	w := &flashWalker{}
	w.write(flash[:5000])
	w.gap(false)
	w.write(flash[5100:])
	if n := sum(w.counts()); n > 503-2 || n < 503-8 {
		t.Errorf("%d messages around a gap", n)
	}
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, w := range []walker{&flashWalker{}, newULogWalker()} {
		w.write(noise)
		w.gap(true)
		w.write(noise)
		w.counts()
	}
}

func flashLog(n int) []byte {
	var b []byte
	for _, f := range [][3]byte{{128, 89, 'F'}, {1, 30, 'I'}, {2, 20, 'G'}} {
		m := make([]byte, 89)
		copy(m, []byte{0xA3, 0x95, 128, f[0], f[1], f[2]})
		b = append(b, m...)
	}
	for i := range n {
		m := make([]byte, 30-10*(i%2))
		copy(m, []byte{0xA3, 0x95, byte(1 + i%2), byte(i)})
		b = append(b, m...)
	}
	return b
}

func uLog(n int) []byte {
	b := append(append([]byte{}, ulogMagic...), make([]byte, 9)...)
	add := func(kind byte, body []byte) {
		b = append(b, byte(len(body)), byte(len(body)>>8), kind)
		b = append(b, body...)
	}
	add('B', make([]byte, 40))
	add('A', []byte("\x00\x01\x00imu"))
	add('A', []byte("\x00\x02\x00gps"))
	for i := range n {
		add('D', append([]byte{byte(1 + i%2), 0, byte(i)}, make([]byte, i%200)...))
	}
	return b
}

func sum(cs []count) (n uint64) {
	for _, c := range cs {
		n += c.Count
	}
	return n
}

func equalCounts(a, b []count) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestOutputLost: ranges that are lost are told once they are known, and all of them.
func TestOutputLost(t *testing.T) {
	s := &lostStore{}
	o := output{store: s}
	for i := range int64(2000) {
		o.put(i*10, []byte{1}, 0)
		o.lose(i*10+1, i*10+10, "test")
	}
	if !o.end(20_000, "", 0) {
		t.Fatal("no end")
	}
	if n := s.got.holes(0, 20_000, 3000); len(n) != 2000 || o.whole != 18_000 {
		t.Errorf("%d ranges are not lost, want 2000; %d bytes", len(n), o.whole)
	}
}

type lostStore struct{ got ranges }

func (s *lostStore) Put(f segment.File, _ []byte) (uint64, bool) {
	for _, r := range f.Lost {
		s.got.add(r.From, r.To)
	}
	return 0, true
}
func (s *lostStore) Confirm()                   {}
func (s *lostStore) Confirmed() (uint64, error) { return 0, nil }
