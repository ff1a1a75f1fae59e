package recorder_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/crypto/open"
	"holdfast/firmware/recorder"
	"holdfast/mavlink"
	"holdfast/mavlink/link"
	"holdfast/mavlink/serial"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// frame makes a MAVLink 2 frame with the right checksum.
func frame(seq, system, component uint8, id uint32, payload ...byte) []byte {
	f := []byte{0xFD, byte(len(payload)), 0, 0, seq, system, component, byte(id), byte(id >> 8), byte(id >> 16)}
	f = append(f, payload...)
	extra, _ := mavlink.CRCExtra(id)
	sum := mavlink.Checksum(append(slices.Clone(f[1:]), extra))
	return binary.LittleEndian.AppendUint16(f, sum)
}

// heartbeat of a quadrotor with the given autopilot type.
func heartbeat(seq, system, component, autopilot uint8, armed bool) []byte {
	mode := byte(0x51)
	if armed {
		mode |= 0x80
	}
	return frame(seq, system, component, mavlink.MsgHeartbeat, 0, 0, 0, 0, 2, autopilot, mode, 4, 3)
}

func own(seq uint8, armed bool) []byte { return heartbeat(seq, 1, 1, 3, armed) }

// attitude is an ordinary frame that carries a number.
func attitude(seq uint8, n uint32) []byte {
	p := make([]byte, 28)
	binary.LittleEndian.PutUint32(p, n)
	p[27] = 1
	return frame(seq, 1, 1, 30, p...)
}

// line is a link of the test's own.
type line struct {
	in        chan []byte
	rest      []byte
	closed    chan struct{}
	once      sync.Once
	holdsBack bool
}

func newLine(holdsBack bool) *line {
	return &line{in: make(chan []byte), closed: make(chan struct{}), holdsBack: holdsBack}
}

func (l *line) Read(b []byte, wait time.Duration) (int, error) {
	if len(l.rest) == 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case p, ok := <-l.in:
			if !ok {
				return 0, serial.ErrHangup
			}
			l.rest = p
		case <-l.closed:
			return 0, fs.ErrClosed
		case <-t.C:
			return 0, link.ErrSilent
		}
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *line) Close() error                          { l.once.Do(func() { close(l.closed) }); return nil }
func (l *line) LineErrors() (serial.LineErrors, bool) { return serial.LineErrors{}, false }
func (l *line) HoldsBack() bool                       { return l.holdsBack }

// bench is a recorder on a disk in memory.
type bench struct {
	t        *testing.T
	disk     *storagetest.Disk
	operator age.Identity
	rs       *keys.Recipients
	device   *keys.DeviceKey
	start    time.Time
	cut      bool // segments that were never closed are read too
}

func newBench(t *testing.T) *bench {
	t.Helper()
	secret, public, err := keys.GenerateIdentity(true)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, disk: storagetest.New(1), start: time.Now()}
	if b.operator, err = keys.ParseIdentity(secret); err != nil {
		t.Fatal(err)
	}
	if b.rs, err = keys.ParseRecipients(strings.NewReader(public)); err != nil {
		t.Fatal(err)
	}
	if b.device, err = keys.NewDeviceKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) now() time.Duration { return time.Second + time.Since(b.start) }

func (b *bench) vault() *vault.Vault {
	b.t.Helper()
	signer, err := b.device.Signer()
	if err != nil {
		b.t.Fatal(err)
	}
	v, err := vault.Open(vault.Config{FS: b.disk, DeviceID: b.device.ID(), DevicePub: b.device.Verifier() + "\n", DeviceKey: signer, Rand: rand.Reader, Now: b.now,
		FlushArmed: 200 * time.Millisecond, FlushIdle: 900 * time.Millisecond, WhenFull: "stop", NewKey: b.newKey})
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *bench) newKey() (*vault.FlightKey, error) {
	k, err := keys.NewFlightKey(b.rs)
	if err != nil {
		return nil, err
	}
	out := &vault.FlightKey{Public: k.Public, Salt: make([]byte, custody.SaltSize)}
	for _, line := range b.rs.Strings() {
		out.Recipients = append(out.Recipients, custody.Fingerprint(out.Salt, line))
	}
	for _, f := range k.Files {
		out.Files = append(out.Files, vault.KeyFile{Name: f.Name, Data: f.Data})
	}
	return out, nil
}

// record runs a recorder over one line while f feeds it, and stops it in good order.
func (b *bench) record(cfg recorder.Config, l *line, f func(r *recorder.Recorder)) {
	b.t.Helper()
	if _, err := b.try(cfg, l, f); err != nil {
		b.t.Error(err)
	}
}

// try is record where the end may fail.
func (b *bench) try(cfg recorder.Config, l *line, f func(r *recorder.Recorder)) (*recorder.Recorder, error) {
	b.t.Helper()
	cfg.Vault, cfg.Now = b.vault(), b.now
	if cfg.OpenLink == nil {
		cfg.OpenLink = func(string, int) (link.Source, error) { return l, nil }
	}
	device := "test"
	if l != nil && l.holdsBack { // as only a TCP peer may
		device = "tcp:test"
	}
	cfg.Links = []recorder.Link{{Name: "fc", Device: device, Baud: 921600}}
	r := recorder.New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-r.Ready()
	f(r)
	stop()
	return r, errors.Join(<-ended, cfg.Vault.Close())
}

// opened is one record as the operator reads it.
type opened struct {
	id     string
	frames [][]byte
	noise  []byte
	metas  []segment.Meta
	sent   []segment.SentRun
	seen   map[uint64]bool
	skip   bool
}

func (o *opened) Meta(m *segment.Meta) error {
	if o.skip = o.seen[m.Block]; !o.skip {
		o.seen[m.Block] = true
		o.metas = append(o.metas, *m)
	}
	return nil
}

func (o *opened) Data(p []byte, part bool) error {
	for len(p) > 8 && !o.skip {
		f, ok := mavlink.ParseFrame(p[8:])
		if !ok {
			return errors.New("entry does not parse")
		}
		o.frames = append(o.frames, bytes.Clone(f.Raw))
		p = p[8+len(f.Raw):]
	}
	return nil
}

func (o *opened) Noise(r segment.NoiseRun) error {
	if !o.skip {
		o.noise = append(o.noise, r.Data...)
	}
	return nil
}

func (o *opened) events() (kinds []string) {
	for _, m := range o.metas {
		for _, e := range m.Events {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// read opens every record of the disk; each segment must have been closed in good order.
func (b *bench) read() (all []*opened) {
	b.t.Helper()
	files := b.disk.Files()
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parts := strings.Split(name, "/")
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "T") {
			continue
		}
		if !strings.HasSuffix(name, ".age") || strings.HasSuffix(name, ".open.age") && !b.cut {
			b.t.Errorf("left behind: %s", name)
			continue
		}
		if len(all) == 0 || all[len(all)-1].id != parts[1] {
			all = append(all, &opened{id: parts[1], seen: map[uint64]bool{}})
		}
		b.readSegment(all[len(all)-1], files[parts[0]+"/"+parts[1]+"/flight.key.age"], files[name])
	}
	slices.SortStableFunc(all, func(a, b *opened) int { return strings.Compare(a.id[1:], b.id[1:]) })
	return all
}

func (b *bench) readSegment(o *opened, key, sealed []byte) {
	b.t.Helper()
	id, err := open.New(b.operator).Flight(key)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), id)
	if err != nil {
		b.t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil && !b.cut {
		b.t.Fatal(err)
	}
	d, err := segment.NewDecoder(o)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := d.Feed(plain); err != nil {
		b.t.Fatal(err)
	}
	if stats, err := d.End(); err != nil || stats.BadFrames+stats.CutFrames > 0 {
		b.t.Fatal(stats, err)
	}
}

func ids(all []*opened) (s []string) {
	for _, o := range all {
		s = append(s, o.id)
	}
	return s
}

func total(all []*opened) (frames [][]byte, noise []byte) {
	for _, o := range all {
		frames, noise = append(frames, o.frames...), append(noise, o.noise...)
	}
	return frames, noise
}

func equalFrames(t *testing.T, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("frame %d differs", i)
		}
	}
}

func TestFlightFromArmingToDisarming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		var sent [][]byte
		send := func(f []byte) { sent = append(sent, f); l.in <- f; time.Sleep(500 * time.Millisecond) }
		b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
			for i := range 8 {
				send(own(uint8(i), false))
			}
			for i := range 14 {
				send(own(uint8(8+i), true))
			}
			if s := r.Snapshot(); !s.Armed || s.Record != "F00000002" || s.State != "recording" {
				t.Errorf("in flight: %+v", s)
			}
			for i := range 6 {
				send(own(uint8(22+i), false))
			}
		})
		all := b.read()
		if got := ids(all); !slices.Equal(got, []string{"G00000001", "F00000002", "G00000003"}) {
			t.Fatalf("records %v", got)
		}
		if len(all[0].frames) != 8 || len(all[1].frames) != 14 || len(all[2].frames) != 6 {
			t.Errorf("frames %d, %d, %d: a flight begins with the first armed heartbeat", len(all[0].frames), len(all[1].frames), len(all[2].frames))
		}
		got, _ := total(all)
		equalFrames(t, got, sent)
	})
}

func TestOnlyTheOwnAutopilotArms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
			for i := range 30 {
				l.in <- own(uint8(i), false)
				l.in <- heartbeat(uint8(i), 2, 1, 12, true)  // another aircraft
				l.in <- heartbeat(uint8(i), 1, 154, 8, true) // a gimbal
				l.in <- heartbeat(uint8(i), 1, 154, 3, true) // one that calls itself an autopilot
				l.in <- heartbeat(uint8(i), 255, 190, 8, true)
				time.Sleep(time.Second)
			}
			if r.Snapshot().Armed {
				t.Error("armed by somebody else's heartbeat")
			}
		})
		if got := ids(b.read()); !slices.Equal(got, []string{"G00000001"}) {
			t.Errorf("records %v", got)
		}
	})
}

func TestFlappingArmBit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		var sent [][]byte
		b.record(recorder.Config{}, l, func(*recorder.Recorder) {
			for i := range 60 { // five changes a second for 12 s
				f := own(uint8(i), i%2 == 1)
				sent = append(sent, f)
				l.in <- f
				time.Sleep(200 * time.Millisecond)
			}
		})
		all := b.read()
		// One at the start, one at the first change, then one in 5 s.
		if len(all) > 4 {
			t.Errorf("%d records: %v", len(all), ids(all))
		}
		if len(all) < 3 {
			t.Errorf("%d records: the arm bit is followed at all", len(all))
		}
		got, _ := total(all)
		equalFrames(t, got, sent)
	})
}

// TestStalledMedium stops the medium for a while. A source that can be held back loses
// nothing; of one that cannot, what is dropped is counted and recorded.
func TestStalledMedium(t *testing.T) {
	for _, holdsBack := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b, l := newBench(t), newLine(holdsBack)
			const n = 150_000 // 6 MiB with stamps: more than the ring holds
			var sent [][]byte
			var snap recorder.Snapshot
			b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
				l.in <- own(0, false)
				sent = append(sent, own(0, false))
				time.Sleep(2 * time.Second)
				stalled := make(chan struct{})
				release := time.AfterFunc(30*time.Second, func() { close(stalled) })
				defer release.Stop()
				b.disk.SetOnOp(func(op string) {
					if strings.HasPrefix(op, "sync ") || strings.HasPrefix(op, "write ") {
						<-stalled
					}
				})
				for i := 0; i < n; {
					var chunk []byte
					for range 100 {
						f := attitude(uint8(i+1), uint32(i))
						sent = append(sent, f)
						chunk = append(chunk, f...)
						i++
					}
					l.in <- chunk
				}
				time.Sleep(time.Minute)
				b.disk.SetOnOp(nil)
				l.in <- own(1, false)
				sent = append(sent, own(1, false))
				time.Sleep(2 * time.Second)
				snap = r.Snapshot()
			})
			all := b.read()
			got, _ := total(all)
			if holdsBack {
				equalFrames(t, got, sent)
				if snap.Drops != 0 {
					t.Errorf("%d drops counted", snap.Drops)
				}
				return
			}
			var dropped int64
			for _, o := range all {
				for _, m := range o.metas {
					if m.Drops != nil {
						dropped += m.Drops.Frames
					}
				}
			}
			if dropped == 0 || dropped != snap.Drops || int64(len(got))+dropped != int64(len(sent)) {
				t.Errorf("sent %d, recorded %d, dropped %d by the record and %d by the health file", len(sent), len(got), dropped, snap.Drops)
			}
			if !bytes.Equal(got[len(got)-1], sent[len(sent)-1]) {
				t.Error("recording did not go on after the stall")
			}
		})
	}
}

func TestFailingMedium(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		var sent [][]byte
		b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
			for i := range 40 {
				f := attitude(uint8(i), uint32(i))
				sent = append(sent, f)
				l.in <- f
				time.Sleep(500 * time.Millisecond)
				switch i {
				case 10:
					b.disk.ReadOnly(true)
				case 20:
					if s := r.Snapshot(); s.State != "fault" || !strings.Contains(s.LastError, "cannot record") {
						t.Errorf("on a read-only medium: %+v", s)
					}
					b.disk.ReadOnly(false)
				}
			}
			if s := r.Snapshot(); s.State != "recording" || s.LastError != "" {
				t.Errorf("afterwards: %+v", s)
			}
		})
		got, _ := total(b.read())
		equalFrames(t, got, sent)
	})
}

func TestFullMedium(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		var sent [][]byte
		b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
			for i := range 40 {
				if i < 13 || i >= 20 { // a quiet line must not make a full medium look well
					f := attitude(uint8(i), uint32(i))
					sent = append(sent, f)
					l.in <- f
				}
				time.Sleep(500 * time.Millisecond)
				switch i {
				case 10:
					b.disk.SetFree(vault.MinFree - 1)
				case 20:
					b.disk.SetFree(1 << 30)
				}
				if s := r.Snapshot(); i > 12 && i < 20 && s.State != "fault" {
					t.Errorf("on a full medium: %+v", s)
				}
			}
			if s := r.Snapshot(); s.State != "recording" {
				t.Errorf("afterwards: %+v", s)
			}
		})
		all := b.read()
		if len(all) != 2 {
			t.Errorf("records %v: the first was ended in good order, the second begun when there was room", ids(all))
		}
		got, _ := total(all)
		equalFrames(t, got, sent)
	})
}

// TestLostLink: a link that hangs up is opened again with back-off, and the record tells of it.
func TestLostLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, first, second := newBench(t), newLine(true), newLine(true)
		var tries atomic.Int32
		openLink := func(string, int) (link.Source, error) {
			switch n := tries.Add(1); {
			case n == 1:
				return first, nil
			case n < 8:
				return nil, fs.ErrNotExist
			}
			return second, nil
		}
		b.record(recorder.Config{OpenLink: openLink}, nil, func(r *recorder.Recorder) {
			first.in <- attitude(0, 0)
			part := attitude(1, 1)
			first.in <- part[:10] // cut in the middle of a frame
			close(first.in)
			time.Sleep(10 * time.Second)
			if tries.Load() != 8 {
				t.Errorf("%d tries in 10 s", tries.Load())
			}
			if r.Snapshot().LastError != "" {
				t.Errorf("still complains: %+v", r.Snapshot())
			}
			second.in <- part[10:] // the rest of the frame: two lines, so no frame
			second.in <- attitude(2, 2)
			time.Sleep(5 * time.Second)
		})
		all := b.read()
		if len(all) != 1 || len(all[0].frames) != 2 || len(all[0].noise) != len(attitude(1, 1)) {
			t.Fatalf("%v: %d frames, %d noise bytes", ids(all), len(all[0].frames), len(all[0].noise))
		}
		want := []string{"link_open", "link_lost", "link_unavailable", "link_open", "link_silent", "link_resumed", "link_silent", "link_closed"}
		if got := all[0].events(); !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
	})
}

func TestArmedOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		b.record(recorder.Config{ArmedOnly: true}, l, func(r *recorder.Recorder) {
			for i := range 100 { // 100 s on the ground
				l.in <- own(uint8(i), false)
				time.Sleep(time.Second)
			}
			if s := r.Snapshot(); s.Record != "" || s.State != "standby" {
				t.Errorf("on the ground: %+v", s)
			}
			for i := range 20 {
				l.in <- own(uint8(100+i), true)
				time.Sleep(time.Second)
			}
			for i := range 20 {
				l.in <- own(uint8(120+i), false)
				time.Sleep(time.Second)
			}
		})
		all := b.read()
		if got := ids(all); !slices.Equal(got, []string{"F00000001"}) {
			t.Fatalf("records %v", got)
		}
		if n := len(all[0].frames); n < 20+29 || n > 20+32 {
			t.Errorf("%d frames: the flight and the half minute before it", n)
		}
		last := all[0].frames[len(all[0].frames)-1]
		if !bytes.Equal(last, own(119, true)) {
			t.Error("the record does not end with the flight")
		}
	})
}

// TestFlightGoesOnAfterACut: the power goes in the air; the flight goes on as a new record that
// names the one before.
func TestFlightGoesOnAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		var crashed *storagetest.Disk
		b.record(recorder.Config{}, l, func(*recorder.Recorder) {
			for i := range 20 {
				l.in <- own(uint8(i), i > 3)
				time.Sleep(500 * time.Millisecond)
			}
			crashed = b.disk.Crash(storagetest.Strict)
		})
		b.disk = crashed
		l = newLine(true)
		b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
			l.in <- attitude(20, 20)
			time.Sleep(time.Second)
			if got := r.Snapshot().Record; got != "F00000003" {
				t.Errorf("recording %q before the first heartbeat", got)
			}
			l.in <- own(21, true)
			time.Sleep(time.Second)
		})
		found := false
		for name, data := range b.disk.Files() {
			if !strings.Contains(name, "/F00000003/T000001.age") {
				continue
			}
			found = true
			o := &opened{seen: map[uint64]bool{}}
			b.readSegment(o, b.disk.Files()[b.device.ID()+"/F00000003/flight.key.age"], data)
			if o.metas[0].Header == nil || o.metas[0].Header.Continues != "F00000002" {
				t.Errorf("header %+v", o.metas[0].Header)
			}
		}
		if !found {
			t.Error("no segment of F00000003")
		}
	})
}
