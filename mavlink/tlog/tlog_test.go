package tlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"holdfast/mavlink"
	"holdfast/mavlink/tlog"
)

const day = 24 * 60 * 60 * 1_000_000

var (
	beat = frame([]byte{0xFE, 9, 7, 1, 1, 0, 1, 2, 3, 4, 2, 3, 0x81, 4, 3})
	time = frame([]byte{0xFD, 1, 0, 0, 9, 1, 1, 2, 0, 0, 5})
	bad  = []byte{0xFE, 2, 7, 1, 1, 0, 1, 2, 0xAA, 0xAA}
	odd  = []byte{0xFD, 3, 0, 0, 9, 1, 1, 0xEF, 0xCD, 0xAB, 'o', 'd', 'd', 0, 0}
)

// frame adds the checksum to the header and payload of a frame.
func frame(b []byte) []byte {
	id := uint32(b[5])
	if b[0] == 0xFD {
		id = uint32(b[7])
	}
	extra, _ := mavlink.CRCExtra(id)
	return binary.LittleEndian.AppendUint16(b, mavlink.Checksum(append(slices.Clone(b[1:]), extra)))
}

func entry(stamp uint64, raw []byte) []byte { return tlog.AppendEntry(nil, stamp, raw) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

type item struct {
	entry bool
	stamp uint64
	raw   string
}

func (i item) String() string { return fmt.Sprintf("{%v %d %x}", i.entry, i.stamp, i.raw) }

func stray(b ...[]byte) item { return item{raw: string(join(b...))} }

const when = 1_700_000_000_000_000

// logs is also the seed of the fuzz target.
var logs = []struct {
	name string
	in   []byte
	want []item
}{
	{"empty", nil, nil},
	{"one", entry(when, beat), []item{{true, when, string(beat)}}},
	{"two", join(entry(when, beat), entry(when+9, time)), []item{{true, when, string(beat)}, {true, when + 9, string(time)}}},
	{"any stamp before a good frame", join(entry(0, beat), entry(1<<64-1, time)), []item{{true, 0, string(beat)}, {true, 1<<64 - 1, string(time)}}},
	{"good frame, then strays", join(entry(when, beat), []byte("text")), []item{{true, when, string(beat)}, stray([]byte("text"))}},
	{"strays, then good frame", join([]byte("some text"), entry(when, beat)), []item{stray([]byte("some text")), {true, when, string(beat)}}},
	{"bad checksum between entries", join(entry(when, beat), entry(when, bad), entry(when, time)),
		[]item{{true, when, string(beat)}, {true, when, string(bad)}, {true, when, string(time)}}},
	{"bad checksum at the end", entry(when, bad), []item{{true, when, string(bad)}}},
	{"bad checksum before strays", join(entry(when, bad), []byte("?")), []item{stray(entry(when, bad), []byte("?"))}},
	{"unknown at the end", entry(when, odd), []item{{true, when, string(odd)}}},
	{"unknown a day before", join(entry(when, odd), entry(when+day, beat)), []item{{true, when, string(odd)}, {true, when + day, string(beat)}}},
	{"unknown a day behind", join(entry(when+day, odd), entry(when, beat)), []item{{true, when + day, string(odd)}, {true, when, string(beat)}}},
	{"unknown more than a day before", join(entry(when, odd), entry(when+day+1, beat)),
		[]item{stray(entry(when, odd)), {true, when + day + 1, string(beat)}}},
	{"cut stamp", join(entry(when, beat), entry(when, nil)[:5]), []item{{true, when, string(beat)}, stray(entry(when, nil)[:5])}},
	{"cut frame", join(entry(when, beat), entry(when, beat)[:12]), []item{{true, when, string(beat)}, stray(entry(when, beat)[:12])}},
	{"cut header", entry(when, beat)[:9], []item{stray(entry(when, beat)[:9])}},
	{"cut in the middle", join(entry(when, beat)[:13], entry(when, time)), []item{stray(entry(when, beat)[:13]), {true, when, string(time)}}},
	{"frames without stamps", join(beat, beat), []item{stray(beat[:9]), {true, binary.BigEndian.Uint64(beat[9:]), string(beat)}}},
}

func readAll(t testing.TB, r io.Reader) []item {
	t.Helper()
	var items []item
	for lr := tlog.NewReader(r); ; {
		it, err := lr.Next()
		if errors.Is(err, io.EOF) {
			return items
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(it.Raw) == 0 || (!it.Entry && len(it.Raw) > tlog.MaxStray) {
			t.Fatalf("item of %d bytes", len(it.Raw))
		}
		items = append(items, item{it.Entry, it.TimeUsec, string(it.Raw)})
	}
}

func TestReader(t *testing.T) {
	for _, tc := range logs {
		t.Run(tc.name, func(t *testing.T) {
			if got := readAll(t, bytes.NewReader(tc.in)); !slices.Equal(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
			if got := readAll(t, iotest.OneByteReader(bytes.NewReader(tc.in))); !slices.Equal(got, tc.want) {
				t.Errorf("byte by byte: got %v\nwant %v", got, tc.want)
			}
			if got := readAll(t, iotest.DataErrReader(bytes.NewReader(tc.in))); !slices.Equal(got, tc.want) {
				t.Errorf("data with EOF: got %v\nwant %v", got, tc.want)
			}
		})
	}
}

func TestReaderLongStray(t *testing.T) {
	// Start bytes all over: each position must be weighed.
	for _, unit := range []string{"z", "\xFE", "\xFD\x10\x00\x00", "\xFE\x00\x00\x00\x00\x00"} {
		junk := bytes.Repeat([]byte(unit), 200_000)
		in := join(junk, entry(when, beat))
		var size int
		items := readAll(t, bytes.NewReader(in))
		for _, it := range items {
			size += len(it.raw)
			if it.entry {
				size += 8
			}
		}
		if last := items[len(items)-1]; size != len(in) || !last.entry {
			t.Errorf("%q: %d bytes of %d, last item %v", unit, size, len(in), last.entry)
		}
	}
}

// TestReaderDoesNotWait reads entries while the writer holds the source open.
func TestReaderDoesNotWait(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	r := tlog.NewReader(pr)
	for i := range uint64(3) {
		go pw.Write(entry(i, beat))
		if it, err := r.Next(); err != nil || !it.Entry || it.TimeUsec != i {
			t.Fatalf("%+v, %v", it, err)
		}
	}
}

func TestReaderSourceError(t *testing.T) {
	broken := errors.New("cable pulled")
	for _, tc := range []struct {
		src  io.Reader
		want error
	}{
		{io.MultiReader(bytes.NewReader(entry(when, beat)), iotest.ErrReader(broken)), broken},
		{io.MultiReader(bytes.NewReader(entry(when, beat)), idle{}), io.ErrNoProgress},
	} {
		r := tlog.NewReader(tc.src)
		if it, err := r.Next(); err != nil || string(it.Raw) != string(beat) {
			t.Fatalf("%+v, %v", it, err)
		}
		for range 2 {
			if _, err := r.Next(); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		}
	}
}

// idle is a source that never says anything.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestRoundTrip(t *testing.T) {
	var out, want bytes.Buffer
	w := tlog.NewWriter(&out)
	var items []item
	for i := range uint64(5000) {
		raw := [][]byte{beat, time, bad, odd}[i%4]
		if err := w.WriteEntry(when+i, raw); err != nil {
			t.Fatal(err)
		}
		want.Write(tlog.AppendEntry(nil, when+i, raw))
		items = append(items, item{true, when + i, string(raw)})
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want.Bytes()) {
		t.Error("Writer and AppendEntry differ")
	}
	if got := readAll(t, &out); !slices.Equal(got, items) {
		t.Errorf("%d items read, %d written", len(got), len(items))
	}
}

func TestWriterError(t *testing.T) {
	w := tlog.NewWriter(full{})
	if err := w.WriteEntry(when, beat); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); !errors.Is(err, errFull) {
		t.Errorf("Flush: %v", err)
	}
	if err := w.WriteEntry(when, beat); !errors.Is(err, errFull) {
		t.Errorf("WriteEntry: %v", err)
	}
}

var errFull = errors.New("no space")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// FuzzTlog holds for any input: every byte comes out once, in order, and what comes out as
// an entry is a stamp and one whole span.
func FuzzTlog(f *testing.F) {
	for _, l := range logs {
		f.Add(l.in)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var out []byte
		items := readAll(t, bytes.NewReader(data))
		for _, it := range items {
			if !it.entry {
				out = append(out, it.raw...)
				continue
			}
			out = tlog.AppendEntry(out, it.stamp, []byte(it.raw))
			if mavlink.SpanSize([]byte(it.raw)) != len(it.raw) {
				t.Fatalf("entry %x is not one span", it.raw)
			}
		}
		if !bytes.Equal(out, data) {
			t.Fatalf("out %x\nin  %x", out, data)
		}
		if again := readAll(t, iotest.HalfReader(bytes.NewReader(data))); !slices.Equal(again, items) {
			t.Fatal("other sizes of reads give other items")
		}
	})
}

func BenchmarkReader(b *testing.B) {
	in := bytes.Repeat(join(entry(when, beat), entry(when, time)), 10_000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		r := tlog.NewReader(bytes.NewReader(in))
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}
