package flight_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"holdfast/cmd/holdfast/internal/flight"
	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
	"holdfast/mavlink"
	"holdfast/mavlink/tlog"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// board writes a vault into a folder, as the recorder would.
type board struct {
	t        testing.TB
	dir      string
	operator age.Identity
	v        *vault.Vault
	clock    time.Duration
	sent     [][]byte
}

// newBoard is a board whose records have the key groups.
func newBoard(t testing.TB, groups ...keys.Group) *board {
	t.Helper()
	b := &board{t: t, dir: t.TempDir(), clock: time.Hour}
	secret, public, err := keys.GenerateIdentity(false)
	b.check(err)
	b.operator, err = keys.ParseIdentity(secret)
	b.check(err)
	rs, err := keys.ParseRecipients(strings.NewReader(public))
	b.check(err)
	device, err := keys.NewDeviceKey(rand.Reader)
	b.check(err)
	signer, err := device.Signer()
	b.check(err)
	fsys, err := vault.NewOSFS(b.dir)
	b.check(err)
	b.v, err = vault.Open(vault.Config{FS: fsys, DeviceID: device.ID(), DevicePub: device.Verifier() + "\n", DeviceKey: signer, Rand: rand.Reader,
		Now:        func() time.Duration { b.clock += time.Microsecond; return b.clock },
		FlushArmed: 200 * time.Millisecond, FlushIdle: 900 * time.Millisecond, WhenFull: "stop",
		Header: segment.Header{Lock: "bench", Grade: "none", Links: []segment.Link{{Name: "fc"}}, Origins: []string{"holdfast", "share:ros"}, Operator: "N. N.", Case: "case 7"},
		NewKey: func() (*vault.FlightKey, error) { return flightKey(rs, groups) }})
	b.check(err)
	return b
}

// flightKey makes the identities of a record, each for the first recipient of its list.
func flightKey(rs *keys.Recipients, groups []keys.Group) (*vault.FlightKey, error) {
	k, err := keys.NewFlightKey(rs, groups...)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, custody.SaltSize)
	out := &vault.FlightKey{Public: k.Public, Recipients: []string{custody.Fingerprint(salt, rs.Strings()[0])}, Salt: salt,
		Files: []vault.KeyFile{{Name: k.Files[0].Name, Data: k.Files[0].Data}}}
	for i, g := range k.Groups {
		out.Groups = append(out.Groups, vault.KeyGroup{Streams: g.Streams, Public: g.Public, Files: []vault.KeyFile{{Name: g.Files[0].Name, Data: g.Files[0].Data}},
			Recipients: []string{custody.Fingerprint(salt, groups[i].Recipients.Strings()[0])}})
	}
	return out, nil
}

func (b *board) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// frame is an ATTITUDE frame with incompressible content.
func frame(seq int) []byte {
	f := make([]byte, 10+28)
	copy(f, []byte{0xFD, 28, 0, 0, byte(seq), 1, 1, 30, 0, 0})
	rand.Read(f[10:])
	f[37] |= 1
	extra, _ := mavlink.CRCExtra(30)
	return binary.LittleEndian.AppendUint16(f, mavlink.Checksum(append(bytes.Clone(f[1:]), extra)))
}

// block appends n frames and some noise and makes them durable. offset is the stamp offset.
func (b *board) block(n int, offset int64, m segment.Meta) {
	b.t.Helper()
	b.clock += 100 * time.Millisecond
	blk := segment.Block{Meta: m}
	blk.Meta.Frames, blk.Meta.StampOffset = n, offset
	for range n {
		f := frame(len(b.sent))
		b.sent = append(b.sent, f)
		blk.Data = tlog.AppendEntry(blk.Data, uint64(b.clock.Microseconds()+offset), f)
	}
	blk.Noise = segment.AppendNoise(nil, segment.NoiseRun{Offset: int64(len(b.sent)), StampUsec: uint64(b.clock.Microseconds() + offset), Data: []byte("noise")})
	b.check(b.v.Append(&blk))
	b.check(b.v.Flush())
}

func (b *board) finish() {
	for b.v.Step() {
	}
}

// record lists the vault and returns its only device and newest record.
func (b *board) record() (vault.Device, vault.Record) {
	b.t.Helper()
	ds, err := vault.FindDevices(os.DirFS(b.dir), "x")
	b.check(err)
	b.check(ds[0].Read(os.DirFS(b.dir), false))
	return ds[0], ds[0].Records[len(ds[0].Records)-1]
}

func (b *board) open() (*flight.Summary, string) {
	b.t.Helper()
	d, r := b.record()
	out := filepath.Join(b.t.TempDir(), "out")
	o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(b.operator)}
	s, err := o.Open(d, r, out)
	b.check(err)
	return s, out
}

func (b *board) frames(out string) (frames [][]byte, stamps []uint64) {
	b.t.Helper()
	f, err := os.Open(filepath.Join(out, "telemetry.tlog"))
	b.check(err)
	defer f.Close()
	r := tlog.NewReader(f)
	for {
		item, err := r.Next()
		if err != nil {
			return frames, stamps
		}
		if !item.Entry {
			b.t.Fatal("stray bytes in telemetry.tlog")
		}
		frames, stamps = append(frames, bytes.Clone(item.Raw)), append(stamps, item.TimeUsec)
	}
}

// file returns the path of a segment of the newest record.
func (b *board) file(name string) string {
	_, r := b.record()
	return filepath.Join(b.dir, filepath.FromSlash(r.Dir), name)
}

const utc = 1_790_000_000_000_000

// TestStampsBecomeUTC: blocks whose stamps count from boot and blocks whose stamps count from
// 1970 come out on one scale.
func TestStampsBecomeUTC(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{}))
	b.block(3, 0, segment.Meta{})
	pair := segment.ClockPair{BootUsec: b.clock.Microseconds(), UTCUsec: utc + b.clock.Microseconds(), Source: "autopilot", UncertaintyUsec: 200_000}
	b.block(3, utc+777, segment.Meta{Clock: []segment.ClockPair{pair}})
	b.check(b.v.Close())
	s, out := b.open()
	if s.Clock.Source != "autopilot" || s.Clock.OffsetUsec != utc || s.Clock.UncertaintyUsec != 200_000 {
		t.Errorf("clock %+v", s.Clock)
	}
	_, stamps := b.frames(out)
	if len(stamps) != 6 || stamps[0] < utc || stamps[5]-stamps[0] > 200_000 {
		t.Errorf("stamps %v", stamps)
	}
	if s.State != vault.StateClean || s.Signed || s.Frames != 6 || s.Noise.Bytes != 10 || s.Messages["30"].Count != 6 {
		t.Errorf("%+v", s)
	}
	info, err := os.Stat(out)
	b.check(err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("opened folder is %v", info.Mode())
	}
	var doc map[string]any
	data, err := os.ReadFile(filepath.Join(out, "flight.json"))
	b.check(err)
	b.check(json.Unmarshal(data, &doc))
	for _, key := range []string{"span", "clock", "messages", "gaps", "noise", "line_errors", "sync", "missing", "state"} {
		if _, ok := doc[key]; !ok {
			t.Errorf("flight.json has no %q", key)
		}
	}
}

func TestContradictingClockIsNotBelieved(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	boot := b.clock.Microseconds()
	b.block(1, 0, segment.Meta{Clock: []segment.ClockPair{
		{BootUsec: boot, UTCUsec: 1_600_000_000_000_000, Source: "autopilot"},
		{BootUsec: boot + 1000, UTCUsec: 1_600_000_100_000_000, Source: "autopilot"},
		{BootUsec: boot, UTCUsec: utc, Source: "host_unsynchronised"}}})
	b.check(b.v.Close())
	s, _ := b.open()
	if s.Clock.Source != "host_unsynchronised" || s.Clock.UncertaintyUsec != -1 || !strings.Contains(s.Clock.Doubt, "autopilot") {
		t.Errorf("%+v", s.Clock)
	}
}

// TestCutRecord: the board dies; all that was flushed is there, and flight.json says what may
// be missing.
func TestCutRecord(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Flight, vault.RecordID{Kind: vault.Flight, Number: 7}))
	for range 5 {
		b.block(40, 0, segment.Meta{})
	}
	s, out := b.open() // the vault is never closed
	if s.State != vault.StateCut || s.Frames != 200 || s.Continues != "F00000007" || len(s.Missing) == 0 {
		t.Errorf("%+v", s)
	}
	got, _ := b.frames(out)
	for i := range got {
		if !bytes.Equal(got[i], b.sent[i]) {
			t.Fatalf("frame %d differs", i)
		}
	}
}

// TestDamagedChunk flips one byte in each of several places: the chunk is lost, said to be, and
// everything else is there.
func TestDamagedChunk(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	for range 6 {
		b.block(1500, 0, segment.Meta{}) // about one chunk each
	}
	b.check(b.v.Close())
	name := b.file("T000001.age")
	whole, err := os.ReadFile(name)
	b.check(err)
	for _, at := range []int{5000, 100_000, len(whole) / 2} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		b.check(os.WriteFile(name, damaged, 0o600))
		s, out := b.open()
		got, _ := b.frames(out)
		if s.State != vault.StateDamaged || len(got) < 4500 || len(got) >= 9000 || int64(len(got)) != s.Frames {
			t.Errorf("byte %d: state %s, %d frames (%d by flight.json)", at, s.State, len(got), s.Frames)
		}
		sent := map[string]bool{}
		for _, f := range b.sent {
			sent[string(f)] = true
		}
		for _, f := range got {
			if !sent[string(f)] {
				t.Fatal("an invented frame")
			}
		}
	}
}

// TestBothForms: the closed form is damaged and the open one is still there. Blocks of both are
// joined, and none is taken twice.
func TestBothForms(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	for range 4 {
		b.block(1500, 0, segment.Meta{})
	}
	openName := b.file("T000001.open.age")
	openForm, err := os.ReadFile(openName)
	b.check(err)
	b.check(b.v.Close())
	closed, err := os.ReadFile(b.file("T000001.age"))
	b.check(err)
	b.check(os.WriteFile(openName, openForm, 0o600))
	closed[len(closed)/2] ^= 1
	b.check(os.WriteFile(b.file("T000001.age"), closed, 0o600))
	s, out := b.open()
	got, _ := b.frames(out)
	if len(got) != 6000 || s.Frames != 6000 {
		t.Errorf("%d frames, want 6000", len(got))
	}
	seen := map[string]bool{}
	for _, f := range got {
		if seen[string(f)] {
			t.Fatal("a frame twice")
		}
		seen[string(f)] = true
	}
}

func TestMissingSegment(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	for range 3 {
		b.block(10, 0, segment.Meta{})
		b.clock += 11 * time.Second // the next block rotates
	}
	b.finish()
	b.check(b.v.Close())
	b.check(os.Remove(b.file("T000002.age")))
	s, out := b.open()
	got, _ := b.frames(out)
	if s.State != vault.StateMissing || len(got) != 20 {
		t.Errorf("state %s, %d frames", s.State, len(got))
	}
}

func TestWrongIdentity(t *testing.T) {
	b := newBoard(t)
	b.check(b.v.Begin(vault.Ground, vault.RecordID{}))
	b.block(1, 0, segment.Meta{})
	b.check(b.v.Close())
	secret, _, err := keys.GenerateIdentity(false)
	b.check(err)
	other, err := keys.ParseIdentity(secret)
	b.check(err)
	d, r := b.record()
	out := filepath.Join(t.TempDir(), "out")
	o := &flight.Opener{FS: os.DirFS(b.dir), Keys: open.New(other)}
	if _, err := o.Open(d, r, out); !errors.Is(err, open.ErrNoIdentity) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Error("a folder was made although nothing was opened")
	}
}
