package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"text/tabwriter"

	"holdfast/mavlink"
	"holdfast/mavlink/tlog"
)

// demoResult is what the demo found.
type demoResult struct {
	recipients []string
	sent       struct {
		Frames int64 `json:"frames"`
		Bytes  int64 `json:"bytes"`
	}
	sealed     int64
	opened     int64
	equal      bool
	hits       int
	patterns   int
	vaultBytes int64
	verified   string
	records    []demoRecord
	rest       rest
}

// demoRecord is what the demo reads of a flight.json.
type demoRecord struct {
	Record string `json:"record"`
	Kind   string `json:"kind"`
	State  string `json:"state"`
	Frames int64  `json:"frames"`
	Sync   struct {
		MaxUsec int64 `json:"max_usec"`
	} `json:"sync"`
}

// pattern is a piece of plaintext that must not stand in the vault.
type pattern struct {
	what string
	data []byte
}

const (
	framePatterns  = 64 // whole frames to search for
	posPatterns    = 64 // positions (latitude and longitude as sent)
	msgGlobalPos   = 33 // GLOBAL_POSITION_INT
	globalPosLatAt = 4  // offset of lat, lon (int32 each) in its payload
)

// search looks for frames, positions and secret keys in every file of the vault. The control
// looks for the same in what the vehicle sent and in the key files, where they must be found.
func (d *demo) search(context.Context) error {
	secrets, err := d.secretPatterns()
	if err != nil {
		return err
	}
	flown, err := d.flownPatterns()
	if err != nil {
		return err
	}
	filmed, clear, err := d.filmedPatterns()
	if err != nil {
		return err
	}
	all := slices.Concat(secrets, flown, filmed)
	d.result.patterns = len(all)
	vault, size, err := readTree(d.path("vault"))
	if err != nil {
		return err
	}
	d.result.vaultBytes = size
	for _, p := range all {
		if name := find(vault, p.data); name != "" {
			d.result.hits++
			d.say("   FOUND %s in %s", p.what, name)
		}
	}
	d.say("   %d bytes in %d files searched for %d frames, positions, keys, pieces of pictures and of the log: %d found", size, len(vault), len(all), d.result.hits)
	return d.control(all, clear)
}

// control fails where the search would not find what is there.
func (d *demo) control(all []pattern, clear map[string][]byte) error {
	sent, err := os.ReadFile(d.path("sent.tlog"))
	if err != nil {
		return err
	}
	clear["sent.tlog"] = sent
	for _, name := range []string{"operator.key", "recovery.key"} {
		if clear[name], err = os.ReadFile(d.path(name)); err != nil {
			return err
		}
	}
	found := 0
	for _, p := range all {
		if find(clear, p.data) != "" {
			found++
		}
	}
	d.say("   control: the same search in what was sent, filmed and logged and in the key files finds %d of %d", found, d.result.patterns)
	if found != d.result.patterns {
		return errors.New("the search does not find what is there, so it proves nothing")
	}
	return nil
}

func (d *demo) secretPatterns() (ps []pattern, err error) {
	for _, name := range []string{"operator.key", "recovery.key"} {
		data, err := os.ReadFile(d.path(name))
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(data) {
			if line = bytes.TrimSpace(line); bytes.HasPrefix(line, []byte("AGE-SECRET-KEY-")) {
				ps = append(ps, pattern{"the secret of " + name, line})
			}
		}
	}
	if len(ps) != 2 {
		return nil, fmt.Errorf("%d secrets in two key files", len(ps))
	}
	return ps, nil
}

// flownPatterns takes frames and positions evenly from all of the flight.
func (d *demo) flownPatterns() (ps []pattern, err error) {
	frames, err := readFrames(d.path("sent.tlog"))
	if err != nil {
		return nil, err
	}
	if len(frames) == 0 {
		return nil, errors.New("the vehicle sent nothing")
	}
	for i := 0; i < len(frames); i += max(len(frames)/framePatterns, 1) {
		ps = append(ps, pattern{"a frame", frames[i]})
	}
	var positions []pattern
	for _, raw := range frames {
		f, _ := mavlink.ParseFrame(raw)
		if p := f.Payload(); f.ID == msgGlobalPos && len(p) >= globalPosLatAt+8 {
			positions = append(positions, pattern{"a position", p[globalPosLatAt : globalPosLatAt+8]})
		}
	}
	for i := 0; i < len(positions); i += max(len(positions)/posPatterns, 1) {
		ps = append(ps, positions[i])
	}
	if len(positions) == 0 {
		return nil, errors.New("the vehicle sent no position")
	}
	return ps, nil
}

func readFrames(name string) (frames [][]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := tlog.NewReader(f)
	for {
		item, err := r.Next()
		if err == io.EOF {
			return frames, nil
		}
		if err != nil {
			return nil, err
		}
		if item.Entry {
			frames = append(frames, bytes.Clone(item.Raw))
		}
	}
}

func readTree(dir string) (files map[string][]byte, size int64, err error) {
	files = map[string][]byte{}
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files[p], err = os.ReadFile(p)
		size += int64(len(files[p]))
		return err
	})
	return files, size, err
}

func find(files map[string][]byte, p []byte) string {
	for name, data := range files {
		if bytes.Contains(data, p) {
			return name
		}
	}
	return ""
}

// compare holds all frames that were sent against all that were opened, in order.
func (d *demo) compare(context.Context) error {
	sent, err := readFrames(d.path("sent.tlog"))
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(d.path("opened"), "*", "*", "telemetry.tlog"))
	if err != nil {
		return err
	}
	sort.Slice(names, func(i, j int) bool { return recordNumber(names[i]) < recordNumber(names[j]) })
	a, b := sha256.New(), sha256.New()
	for _, raw := range sent {
		a.Write(raw)
	}
	for _, name := range names {
		frames, err := readFrames(name)
		if err != nil {
			return err
		}
		d.result.opened += int64(len(frames))
		for _, raw := range frames {
			b.Write(raw)
		}
		if err := d.readRecord(filepath.Dir(name)); err != nil {
			return err
		}
	}
	d.result.equal = bytes.Equal(a.Sum(nil), b.Sum(nil)) && int64(len(sent)) == d.result.opened
	d.say("   SHA-256 of all frames sent    %x", a.Sum(nil))
	d.say("   SHA-256 of all frames opened  %x", b.Sum(nil))
	return nil
}

// recordNumber is the number in .../F00000042/telemetry.tlog.
func recordNumber(name string) string { return filepath.Base(filepath.Dir(name))[1:] }

func (d *demo) readRecord(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "flight.json"))
	if err != nil {
		return err
	}
	var r demoRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	d.result.records = append(d.result.records, r)
	return nil
}

// report prints the table the story ends with.
func (d *demo) report() error {
	r := &d.result
	var slowest int64
	var records [][2]string
	for _, x := range r.records {
		slowest = max(slowest, x.Sync.MaxUsec)
		records = append(records, [2]string{x.Record, fmt.Sprintf("%s record, %s, %d frames", x.Kind, x.State, x.Frames)})
	}
	yes := map[bool]string{true: "yes", false: "NO"}
	d.say("")
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	rows := [][2]string{
		{"frames sent", fmt.Sprint(r.sent.Frames)},
		{"frames sealed", fmt.Sprint(r.sealed)},
		{"frames opened", fmt.Sprint(r.opened)},
		{"equal, byte for byte and in order", yes[r.equal]},
		{"plaintext found in the vault", fmt.Sprintf("%d of %d patterns in %d bytes", r.hits, r.patterns, r.vaultBytes)},
		{"verified without a key", r.verified + "; one changed bit in a copy: found"},
		{"loss window, had the power been cut", fmt.Sprintf("200 ms to the next flush + %.1f ms (slowest sync here), while armed", float64(slowest)/1e3)},
	}
	x := &r.rest
	rows = append(rows,
		[2]string{"autopilot's log, pulled", fmt.Sprintf("%d bytes, equal to its own; %d parameters", x.logBytes, x.params)},
		[2]string{"video and photos", fmt.Sprintf("%d pictures and %d photo(s), each as it was filmed; %d geotagged", x.pictures, x.photos, x.geotagged)},
		[2]string{"sent to the autopilot", fmt.Sprintf("%d frames, each one in sent.jsonl, by the list in docs/autopilot.md", x.sentToPilot)})
	rows = append(rows, records...)
	rows = append(rows, [2]string{"sealed", d.path("vault")}, [2]string{"opened", d.path("opened")},
		[2]string{"keys", d.path("operator.key") + ", recovery.key"}, [2]string{"device key to pin", d.path("device.pub")})
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !r.equal || r.hits > 0 || r.sealed != r.sent.Frames {
		return errors.New("the demo failed: see the table above")
	}
	return nil
}
