package e2e_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/Eyevinn/mp4ff/mp4"
	"golang.org/x/sys/unix"
)

// cameraWord makes the test program a camera's program: FORMAT SEED RATE TOTAL. It gives TOTAL bytes,
// RATE a second (0: as fast as they are taken), then nothing until it is told to end.
const cameraWord = "e2e-camera"

// cameraDone is what a camera that has given all is called in /proc/PID/comm.
const cameraDone = "e2e-cam-done"

func init() {
	if len(os.Args) > 5 && os.Args[1] == cameraWord {
		runtime.LockOSThread() // init runs on the thread that gives the process its name
		os.Exit(beCamera(os.Args[2], number(os.Args[3]), number(os.Args[4]), number(os.Args[5])))
	}
}

func number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		panic(err)
	}
	return n
}

func beCamera(kind string, seed, rate, total int) int {
	over := make(chan os.Signal, 1)
	signal.Notify(over, syscall.SIGTERM)
	switch kind {
	case "die":
		fmt.Fprintln(os.Stderr, "no sensor")
		return 3
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	case "words":
		for range total {
			fmt.Fprintln(os.Stderr, strings.Repeat("words ", 100))
		}
	}
	if !give(kind, seed, rate, total, over) {
		return 0
	}
	if name, err := unix.BytePtrFromString(cameraDone); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
	<-over
	return 0
}

// give writes what the camera has; false: it was told to end.
func give(kind string, seed, rate, total int, over <-chan os.Signal) bool {
	began, given := time.Now(), 0
	for p := range footage(kind, seed, total) {
		if _, err := os.Stdout.Write(p); err != nil {
			return false
		}
		given += len(p)
		wait := time.Duration(0)
		if rate > 0 {
			wait = time.Duration(given)*time.Second/time.Duration(rate) - time.Since(began)
		}
		select {
		case <-over:
			return false
		case <-time.After(max(wait, 0)):
		}
	}
	return true
}

// unit is how much of a stream is told apart by its number: a page, so that what a pipe hands over
// is whole ones.
const unit = 4096

// footage is what a camera gives, in pieces, up to total bytes. It depends on its arguments alone.
func footage(kind string, seed, total int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		const most = 16 * unit
		for at := 0; at < total; {
			p := piece(kind, seed, at, min(total-at, most))
			if !yield(p) {
				return
			}
			at += len(p)
		}
	}
}

// piece makes the bytes from at on, n or, where the format has whole pictures or fragments, about as many.
func piece(kind string, seed, at, n int) (p []byte) {
	switch kind {
	case "mjpeg":
		for len(p) < n {
			p = append(p, picture(seed, at+len(p))...)
		}
	case "mp4", "mp4-sound":
		if at == 0 {
			return movieHead(kind == "mp4-sound")
		}
		return movieFragment(seed, at, n)
	case "ts":
		for len(p) < n {
			p = append(p, transportPacket(seed, at+len(p))...)
		}
	case "marker":
		return bytes.Repeat([]byte(mediaMarker), n/len(mediaMarker)+1)
	case "garbage":
		return filling(seed, at, n)
	default:
		for len(p) < n {
			p = append(p, numbered(seed, (at+len(p))/unit)...)
		}
	}
	return p
}

// numbered is one unit of an H.264 byte stream (ITU-T H.264, Annex B) that tells its number.
func numbered(seed, n int) []byte {
	p := append([]byte{0, 0, 0, 1, 0x41}, fmt.Sprintf("%08x-%012x-", seed, n)...)
	return append(p, filling(seed, n, unit-len(p))...)
}

// filling is noise without zeros.
func filling(seed, at, n int) []byte {
	p := make([]byte, n)
	x := uint64(seed)<<40 ^ uint64(at)*0x9E3779B97F4A7C15 | 1
	for i := range p {
		if i%8 == 0 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
		p[i] = byte(x>>(i%8*8)) | 1
	}
	return p
}

// transportPacket is a packet of MPEG-TS (ISO/IEC 13818-1).
func transportPacket(seed, at int) []byte {
	return append([]byte{0x47, 0x01, 0x01, 0x10}, filling(seed, at, 184)...)
}

// picture is a JPEG that any reader decodes, with a comment that tells it from others.
func picture(seed, at int) []byte {
	img := image.NewGray(image.Rect(0, 0, 64, 48))
	for i := range img.Pix {
		img.Pix[i] = byte(i*seed + at)
	}
	img.SetGray(0, 0, color.Gray{Y: byte(at)})
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err)
	}
	word := fmt.Sprintf("picture %d at %d %s", seed, at, mediaMarker)
	comment := binary.BigEndian.AppendUint16([]byte{0xFF, 0xD8, 0xFF, 0xFE}, uint16(2+len(word)))
	return append(append(comment, word...), b.Bytes()[2:]...)
}

// movieHead is the beginning of a fragmented MP4 (ISO/IEC 14496-12).
func movieHead(sound bool) []byte {
	init := mp4.CreateEmptyInit()
	init.AddEmptyTrack(90000, "video", "und")
	if sound {
		init.AddEmptyTrack(48000, "audio", "und")
	}
	var b bytes.Buffer
	if err := init.Encode(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func movieFragment(seed, at, n int) []byte {
	seg := mp4.NewMediaSegment()
	frag, err := mp4.CreateFragment(uint32(at), 1)
	if err != nil {
		panic(err)
	}
	seg.AddFragment(frag)
	frag.AddFullSample(mp4.FullSample{Sample: mp4.Sample{Dur: 3000, Size: uint32(n)}, Data: filling(seed, at, n)})
	var b bytes.Buffer
	if err := seg.Encode(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// whole is all of what a camera gives.
func whole(kind string, seed, total int) (p []byte) {
	for q := range footage(kind, seed, total) {
		p = append(p, q...)
	}
	return p
}

// camera is a [[camera]] table whose program is this test program.
func camera(t testing.TB, name, kind string, seed, rate, total int, more ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	format := map[string]string{"mjpeg": "mjpeg", "mp4": "mp4", "mp4-sound": "mp4", "ts": "ts"}[kind]
	if format == "" {
		format = "h264"
	}
	words := []string{self, cameraWord, kind, strconv.Itoa(seed), strconv.Itoa(rate), strconv.Itoa(total)}
	text, err := json.Marshal(words) // strings of TOML are those of JSON here
	if err != nil {
		t.Fatal(err)
	}
	lines := append([]string{"[[camera]]", fmt.Sprintf("name = %q", name), "command = " + string(text), fmt.Sprintf("format = %q", format)}, more...)
	return strings.Join(lines, "\n")
}

// cameraProcess finds the program of a camera below a board's processes; 0: it is not there.
func cameraProcess(below int, kind string, seed int) int {
	for _, pid := range descendants(below) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(line, fmt.Appendf(nil, "\x00%s\x00%s\x00%d\x00", cameraWord, kind, seed)) {
			return pid
		}
	}
	return 0
}

func descendants(pid int) (all []int) {
	for _, c := range children(pid) {
		all = append(append(all, c), descendants(c)...)
	}
	return all
}

// part returns the process of a board's part, media or record.
func (p *process) part(name string) int {
	p.t.Helper()
	pid := 0
	waitFor(p.t, patience, "a process for "+name, func() bool {
		for _, c := range children(p.cmd.Process.Pid) {
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c)); bytes.Contains(line, []byte("\x00"+name+"\x00")) {
				pid = c
			}
		}
		return pid != 0
	})
	return pid
}

// waitGiven waits until a camera has given all.
func (p *process) waitGiven(kind string, seed int) {
	p.t.Helper()
	waitFor(p.t, sortiePatience, fmt.Sprintf("the end of camera %s %d", kind, seed), func() bool {
		pid := cameraProcess(p.cmd.Process.Pid, kind, seed)
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return pid != 0 && strings.TrimSpace(string(comm)) == cameraDone
	})
}

// mediaFile is a file of a camera, as flight.json has it.
type mediaFile struct {
	Name       string     `json:"name"`
	Stream     string     `json:"stream"`
	ID         int        `json:"id"`
	Kind       string     `json:"kind"`
	Source     string     `json:"source"`
	Bytes      int64      `json:"bytes"`
	Complete   bool       `json:"complete"`
	Holes      [][2]int64 `json:"holes"`
	LostBytes  int64      `json:"lost_bytes"`
	Why        string     `json:"why"`
	SHA256OK   *bool      `json:"sha256_ok"`
	Called     string     `json:"called"`
	GoesOn     bool       `json:"goes_on"`
	StartsAt   int64      `json:"starts_at"`
	Sidecar    string     `json:"sidecar"`
	Geotagged  string     `json:"geotagged"`
	GeotagWhy  string     `json:"geotag_why"`
	GeotagNote string     `json:"geotag_note"`
	in         *opened
}

func (f *mediaFile) path(name string) string { return filepath.Join(f.in.dir, name) }

// mediaOf lists the files of a camera over all records, in their order.
func mediaOf(t testing.TB, records []*opened, source string) (files []*mediaFile) {
	t.Helper()
	for _, r := range records {
		var list struct {
			Files []*mediaFile `json:"files"`
		}
		if err := json.Unmarshal(readFile(t, filepath.Join(r.dir, "flight.json")), &list); err != nil {
			t.Fatal(err)
		}
		for _, f := range list.Files {
			if f.Source == source && (f.Stream == "V" || f.Stream == "P") {
				f.in = r
				files = append(files, f)
			}
		}
	}
	return files
}

// footageOf puts together what was opened of a camera's video, and sums up what was lost of it.
func footageOf(t testing.TB, records []*opened, source string) (got []byte, lost int64) {
	t.Helper()
	for _, f := range mediaOf(t, records, source) {
		if f.Kind != "video" {
			continue
		}
		p, at := readFile(t, f.path(f.Name)), int64(0)
		all := int64(len(p))
		for _, h := range f.Holes {
			all -= max(min(h[1], int64(len(p)))-h[0], 0)
			got = append(got, p[at:min(h[0], int64(len(p)))]...)
			at = min(h[1], int64(len(p)))
		}
		if all != f.Bytes {
			t.Errorf("%s has %d bytes, flight.json says %d", f.Name, all, f.Bytes)
		}
		got, lost = append(got, p[at:]...), lost+f.LostBytes
	}
	return got, lost
}

// checkNumbered wants whole units of one camera in ascending order, and as much missing as is told.
func checkNumbered(t testing.TB, got []byte, seed, total int, lost int64) {
	t.Helper()
	last, missing := -1, 0
	for at := 0; at < len(got); at += unit {
		p := got[at:min(at+unit, len(got))]
		var s, n int
		if _, err := fmt.Sscanf(string(p[5:min(27, len(p))]), "%x-%x-", &s, &n); err != nil || !bytes.Equal(p, numbered(seed, n)) {
			t.Fatalf("byte %d of %d is no beginning of a unit: %x: %v", at, len(got), p[:min(32, len(p))], err)
		}
		if n <= last {
			t.Fatalf("unit %d comes after %d", n, last)
		}
		missing += n - last - 1
		last = n
	}
	missing += total/unit - last - 1
	if int64(missing)*unit != lost || int64(len(got))+lost != int64(total) {
		t.Errorf("camera %d gave %d bytes: %d opened, %d told as lost, %d missing", seed, total, len(got), lost, missing*unit)
	}
}

// memoryFolder is a new folder in memory, for an inbox.
func memoryFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-inbox")
	if err != nil {
		t.Skipf("no folder in memory: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// inside is a command in the board's mount namespace.
func (b *board) inside(name string, args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(b.space), "-m", name}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// watch opens the vault now and then until what is in it is enough.
func (b *board) watch(what string, enough func(records []*opened) bool) []*opened {
	b.t.Helper()
	var records []*opened
	for deadline := time.Now().Add(sortiePatience); ; <-time.After(time.Second) {
		if len(b.records()) > 0 {
			if records = b.peek(); enough(records) {
				return records
			}
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not seen in the record: %s; events %v; status %v", what, slices.Compact(allEvents(records)), b.health())
		}
	}
}
