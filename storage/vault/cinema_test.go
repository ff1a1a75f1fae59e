package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"

	"holdfast/crypto/open"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// fileKey names a file of streams A, V and P over all records of a run.
type fileKey struct {
	letter byte
	source string
	id     int
}

// reel is what was given of a file, and how much of its beginning is known to be durable.
type reel struct {
	data    []byte
	times   []time.Duration // of each block
	ends    []int           // of each block
	durable int
	fast    bool
}

// cinema does with a vault what recorder, autopilot and cameras do, on one goroutine: telemetry,
// pieces of a log, two slow cameras and a fast one, photos, and records that change in the middle.
type cinema struct {
	v     *vault.Vault
	m     *vault.Media
	clock *clock
	reels map[fileKey]*reel
	ids   map[string]int
	fails bool // operations fail: files have holes then
}

const take = 500 * time.Millisecond

func newCinema(v *vault.Vault, m *vault.Media, c *clock) *cinema {
	return &cinema{v: v, m: m, clock: c, reels: map[fileKey]*reel{}, ids: map[string]int{}}
}

// footage is what a file holds at an offset.
func footage(k fileKey, offset, n int) []byte {
	at := (int(k.letter)*7 + len(k.source)*13 + k.id*1009 + offset) % (4 << 20)
	return randomBytes()[at : at+n]
}

func (c *cinema) reel(k fileKey) *reel {
	if c.reels[k] == nil {
		c.reels[k] = &reel{}
	}
	return c.reels[k]
}

// shoot gives the next piece of a file.
func (c *cinema) shoot(letter byte, source string, n int, end bool) error {
	k := fileKey{letter, source, c.ids[source]}
	r := c.reel(k)
	r.fast = r.fast || n > 200<<10
	b := segment.Block{Data: footage(k, len(r.data), n), Meta: segment.Meta{File: &segment.File{ID: k.id, Kind: segment.KindVideo,
		Source: source, Format: "h264", Offset: int64(len(r.data)), End: end}}}
	if letter == 'A' {
		b.Meta.File.Kind, b.Meta.File.Format = segment.KindLog, "bin"
		if _, ok := c.v.PutFile(&b); !ok {
			return nil
		}
	} else if err := c.m.Append(letter, &b); err != nil {
		return err
	}
	r.data = append(r.data, b.Data...)
	r.times, r.ends = append(r.times, c.clock.now), append(r.ends, len(r.data))
	if end && letter != 'A' { // a segment that has ended is synced
		r.durable = len(r.data)
	}
	return nil
}

// cameras give what a tick brings.
func (c *cinema) cameras(n int) (err error) {
	err = errors.Join(c.shoot('V', "left", 6000, false), c.shoot('V', "right", 5000, n%7 == 6))
	if n%7 == 6 {
		c.ids["right"]++
	}
	if n > 8 && n < 13 {
		err = errors.Join(err, c.shoot('V', "fast", 400<<10, false))
	}
	if n%3 == 0 {
		err = errors.Join(err, c.shoot('P', "still", 50<<10, false), c.shoot('P', "still", 20<<10, true))
		c.ids["still"]++
	}
	for range 3 {
		err = errors.Join(err, c.shoot('A', "stream", 9000, false))
	}
	return err
}

// run goes through a day: ground, flight, ground, with a restart of nothing in between.
func (c *cinema) run() error {
	var err error
	for n := range 40 {
		switch n {
		case 0, 30:
			err = c.begin(vault.Ground)
		case 5:
			err = c.begin(vault.Flight)
		}
		if err = errors.Join(err, c.tick(n)); err != nil && !c.fails {
			return err
		}
	}
	if err := c.m.End(); err != nil && !c.fails {
		return err
	}
	c.keepAll()
	err = c.v.Close()
	if err == nil && !c.fails {
		c.keepFiles()
	}
	return err
}

// begin starts the next record; cameras begin new files.
func (c *cinema) begin(kind vault.Kind) error {
	c.v.SetArmed(kind == vault.Flight)
	for _, source := range []string{"left", "right", "fast", "still"} {
		c.ids[source] += 100
	}
	return c.v.Begin(kind, vault.RecordID{})
}

func (c *cinema) tick(n int) error {
	err := c.v.Append(&segment.Block{Meta: segment.Meta{Frames: 10}, Data: entries(uint64(n)*10, uint64(n)*10+10)})
	err = errors.Join(err, c.v.Flush(), c.cameras(n))
	c.clock.now += take
	if at, ok := c.m.Due(); ok && at <= c.clock.now {
		e := c.m.Flush(c.clock.now)
		if err = errors.Join(err, e); e == nil {
			c.keep(c.clock.now - time.Second)
		}
	}
	for c.v.Step() {
	}
	if _, due := c.v.FileDue(); !due && c.v.Record().Number != 0 && !c.fails {
		c.keepFiles()
	}
	return err
}

// keep notes what Flush promises: blocks of slow streams that came until then.
func (c *cinema) keep(until time.Duration) {
	for k, r := range c.reels {
		for i, at := range r.times {
			if k.letter == 'A' || at > until {
				break
			}
			if end := r.ends[i]; !r.fast {
				r.durable = max(r.durable, end)
			} else if i > 0 && r.times[i-1] < until {
				r.durable = max(r.durable, end-128<<10)
			}
		}
	}
}

// keepAll: Media has ended all segments.
func (c *cinema) keepAll() {
	for k, r := range c.reels {
		if k.letter != 'A' {
			r.durable = len(r.data)
		}
	}
}

// keepFiles: nothing of stream A waits.
func (c *cinema) keepFiles() {
	for k, r := range c.reels {
		if k.letter == 'A' {
			r.durable = len(r.data)
		}
	}
}

// develop reads all pieces of all files out of a vault and holds them against what was given.
func (c *cinema) develop(files map[string][]byte) error {
	seen := map[fileKey][]segment.Range{}
	lost := map[fileKey][]segment.Range{}
	blocks := map[string]bool{}
	err := eachForm(files, func(record string, file string, data []byte, id age.Identity) error {
		h := &pieces{do: func(m *segment.Meta, data []byte) error {
			at := fmt.Sprintf("%s %c %d", record, file[0], m.Block)
			f := m.File
			if blocks[at] || f == nil {
				return nil
			}
			blocks[at] = true
			k := fileKey{file[0], f.Source, f.ID}
			if want := footage(k, int(f.Offset), len(data)); !bytes.Equal(want, data) {
				return fmt.Errorf("%s/%s: block %d of %v at %d is not what was given", record, file, m.Block, k, f.Offset)
			}
			seen[k] = append(seen[k], segment.Range{From: f.Offset, To: f.Offset + int64(len(data))})
			lost[k] = append(lost[k], f.Lost...)
			return nil
		}}
		return h.read(data, id)
	})
	if err != nil {
		return err
	}
	for k, r := range c.reels {
		all := seen[k]
		if c.fails {
			all = append(all, lost[k]...)
		}
		if end := covered(all); end < int64(r.durable) && !c.fails {
			return fmt.Errorf("%v: of %d bytes that were durable %d are there", k, r.durable, end)
		}
	}
	return nil
}

// covered is how far the ranges reach from 0 without a hole.
func covered(all []segment.Range) (end int64) {
	slices.SortFunc(all, func(a, b segment.Range) int { return int(a.From - b.From) })
	for _, r := range all {
		if r.From <= end {
			end = max(end, r.To)
		}
	}
	return end
}

// eachForm calls do with each form of the segments of A, V and P that a reader takes.
func eachForm(files map[string][]byte, do func(record, file string, data []byte, id age.Identity) error) error {
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data, Mode: 0o600}
	}
	devices, err := vault.FindDevices(fsys, ".")
	if err != nil {
		return err
	}
	for _, d := range devices {
		if err := d.Read(fsys, false); err != nil {
			return err
		}
		for _, r := range d.Records {
			if len(r.Keys) == 0 {
				continue
			}
			var wrapped [][]byte
			for _, name := range r.Keys {
				wrapped = append(wrapped, files[path.Join(r.Dir, name)])
			}
			me, _ := crew()
			id, err := open.New(me).Flight(wrapped...)
			if err != nil {
				return err
			}
			for _, s := range r.Segments {
				if s.File == "" || strings.HasSuffix(s.File, ".tmp") || strings.IndexByte("AVP", s.Stream) < 0 {
					continue
				}
				if err := do(r.ID.String(), s.File, files[path.Join(r.Dir, s.File)], id); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// pieces hands out each block with its data.
type pieces struct {
	meta *segment.Meta
	do   func(m *segment.Meta, data []byte) error
}

func (p *pieces) Meta(m *segment.Meta) error {
	p.meta = m
	return nil
}

func (p *pieces) Data(data []byte, part bool) error {
	if part {
		return nil
	}
	return p.do(p.meta, data)
}

func (p *pieces) Noise(segment.NoiseRun) error { return nil }

func (p *pieces) read(data []byte, id age.Identity) error {
	s, err := open.Salvage(bytes.NewReader(data), int64(len(data)), id)
	if err != nil {
		return nil // a header that was never synced
	}
	d, err := segment.NewDecoder(p)
	if err != nil {
		return err
	}
	for {
		chunk, err := s.Next()
		if err == io.EOF {
			_, err := d.End()
			return err
		}
		if chunk.Lost > 0 {
			if err := d.Hole(); err != nil {
				return err
			}
		}
		if err := d.Feed(chunk.Plain); err != nil {
			return err
		}
	}
}

// film runs the program on a disk, until it is cut or killed.
func film(t testing.TB, d *storagetest.Disk, kill int, fails bool) (c *cinema, err error) {
	t.Helper()
	now := &clock{now: time.Second}
	w := watch(t, d)
	w.left = kill
	defer w.bury()
	v, err := vault.Open(config(w, now))
	if err != nil {
		return newCinema(nil, nil, now), err
	}
	c = newCinema(v, v.NewMedia(w, nil), now)
	c.fails = fails
	return c, c.run()
}

// TestCinema: a day without any failure is clean, to the last byte.
func TestCinema(t *testing.T) {
	d := storagetest.New(1)
	c, err := film(t, d, -1, false)
	must(t, err)
	files := d.Crash(storagetest.Strict).Files()
	must(t, c.develop(files))
	rep, err := verify(files)
	if err != nil || rep.State != "clean" || rep.UnsignedTail != 0 {
		t.Errorf("%s, %d leaves unsigned, %v", rep.State, rep.UnsignedTail, err)
	}
	streams := map[byte]int{}
	for name := range files {
		base := path.Base(name)
		streams[base[0]]++
		if strings.Contains(base, ".open") {
			t.Errorf("%s is there at the end", name)
		}
	}
	if streams['V'] < 8 || streams['P'] < 13 || streams['A'] < 3 {
		t.Errorf("%d segments of video, %d of photos, %d of files", streams['V'], streams['P'], streams['A'])
	}
	t.Logf("%d operations; %d segments of video", d.Ops(), streams['V'])
}

// shots are the operations of an uncut run that change more than the data of a segment.
func shots(t testing.TB, seed uint64) (ops int, special []int) {
	t.Helper()
	d := storagetest.New(seed)
	_, err := film(t, d, -1, false)
	must(t, err)
	for i, name := range d.OpNames() {
		verb, rest, _ := strings.Cut(name, " ")
		if strings.Contains(name, "/LOG/") || strings.Contains(rest, "/V") || strings.Contains(rest, "/P") || verb != "write" && verb != "sync" && verb != "free" {
			special = append(special, i+1)
		}
	}
	return d.Ops(), special
}

// after starts the recorder again, cut twice on its way, and returns what the medium holds then.
func (c cutRun) after(d *storagetest.Disk) (map[string][]byte, error) {
	d, err := c.recoverTwice(d)
	if err != nil {
		return nil, err
	}
	if err := c.again(d); err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	return d.Crash(storagetest.Strict).Files(), nil
}

// cut runs the program into a cut or a kill and says which promise was broken.
func (c cutRun) cut(t testing.TB) error {
	d := storagetest.New(c.seed)
	d.IgnoreSync(c.ignoreSync)
	kill := -1
	if c.kill {
		kill = c.at
	} else {
		d.CrashAt(c.at)
	}
	film, err := film(t, d, kill, false)
	if err != nil && !errors.Is(err, storagetest.ErrPowerCut) && !errors.Is(err, errKilled) {
		return fmt.Errorf("the program ended with %w", err)
	}
	if c.kill {
		if err := c.again(d); err != nil {
			return fmt.Errorf("start after the kill: %w", err)
		}
	}
	if film.v != nil {
		for range 3 {
			files := d.Crash(c.mode).Files()
			if rep, err := verify(files); err != nil {
				return fmt.Errorf("before the next start: %w %+v", err, rep.Records)
			}
			if err := film.develop(files); err != nil {
				return fmt.Errorf("before the next start: %w", err)
			}
		}
	}
	files, err := c.after(d.Crash(c.mode))
	if err != nil {
		return err
	}
	if rep, err := verify(files); err != nil {
		return fmt.Errorf("after the next start: %w %+v", err, rep.Records)
	}
	if left := twoForms(files); len(left) > 0 {
		return fmt.Errorf("the next start leaves both forms of %q", left)
	}
	if err := film.develop(files); err != nil {
		return fmt.Errorf("after the next start: %w", err)
	}
	return nil
}

func TestCinemaCuts(t *testing.T) {
	_, special := shots(t, 1)
	n := cuts() / 2
	for i := range n {
		c := cutRun{seed: 1, at: special[i*89%len(special)] + i%2, mode: []storagetest.CrashMode{storagetest.Random, storagetest.Strict}[i/2%2], kill: i%3 == 2}
		if err := c.cut(t); err != nil {
			t.Errorf("%+v: %.1500v", c, err)
		}
	}
	t.Logf("%d cuts and kills at %d moments", n, len(special))
}

// TestCinemaFails lets each kind of operation fail.
func TestCinemaFails(t *testing.T) {
	ops, special := shots(t, 1)
	_ = ops
	for i := range cuts() / 5 {
		at := special[i*97%len(special)]
		if at < 45 {
			continue
		}
		d := storagetest.New(uint64(i))
		d.FailAt(at, errIO[i%len(errIO)])
		c, _ := film(t, d, -1, true)
		files := d.Crash(storagetest.Strict).Files()
		rep, err := verify(files)
		if err == nil {
			err = c.develop(files)
		}
		if err != nil {
			t.Errorf("operation %d (%s): %v %.600v", at, d.OpNames()[at-1], err, rep.Records)
		}
		files, err = cutRun{at: at}.after(d.Crash(storagetest.Random))
		must(t, err)
		if rep, err := verify(files); err != nil {
			t.Errorf("operation %d (%s), next start: %v %.600v", at, d.OpNames()[at-1], err, rep.Records)
		}
	}
}

var errIO = []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS}
