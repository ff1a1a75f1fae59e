package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/mavlink/vehicle"
)

// zstdProgram is the distribution's zstd; the test is left out where it is missing.
func zstdProgram(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("no zstd on this machine: apt-get install zstd")
	}
	return path
}

// ageDecrypt runs `age -d -i identity` on data.
func ageDecrypt(t testing.TB, identity string, data []byte) result {
	t.Helper()
	return runIn(t, "", data, "age", "-d", "-i", identity)
}

// zstdDecode runs `zstd -dc` and wants exit code 0.
func zstdDecode(t testing.TB, data []byte) []byte {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(zstdProgram(t), "-dc")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("zstd -dc: %v: %s", err, errs.String())
	}
	return out
}

// stockKey unlocks a flight key with stock age and writes it to a file.
func stockKey(t testing.TB, identity, keyFile string) string {
	t.Helper()
	r := ageDecrypt(t, identity, readFile(t, keyFile))
	if r.code != 0 {
		t.Fatalf("age -d %s: exit code %d: %s", filepath.Base(keyFile), r.code, r.stderr)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "flight.key"), r.stdout)
}

// stockFrames opens the segments of a record with age and zstd alone.
func stockFrames(t testing.TB, flightKey, record string) (frames [][]byte) {
	t.Helper()
	segments, _ := filepath.Glob(filepath.Join(record, "T*.age"))
	if len(segments) == 0 {
		t.Fatalf("%s holds no segment", record)
	}
	for _, s := range segments {
		r := ageDecrypt(t, flightKey, readFile(t, s))
		cut := strings.HasSuffix(s, ".open.age")
		if !cut && r.code != 0 || cut && (r.code != 1 || !strings.Contains(r.stderr, "unexpected EOF")) {
			t.Fatalf("age -d %s: exit code %d: %s", filepath.Base(s), r.code, r.stderr)
		}
		_, fs, err := splitTlog(zstdDecode(t, []byte(r.stdout)))
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(s), err)
		}
		frames = append(frames, fs...)
	}
	return frames
}

func wantFrames(t testing.TB, what string, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: frame %d differs", what, i)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d frames, want %d", what, len(got), len(want))
	}
}

// newIdentity makes a key with stock or our keygen and returns its file and its recipient.
func newIdentity(t testing.TB, args ...string) (file, recipient string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "id.key")
	return file, strings.TrimSpace(must(t, "holdfast", append([]string{"keygen", "-o", file}, args...)...))
}

// recordOnce records frames and ends in good order. It returns the only record.
func (b *board) recordOnce(frames [][]byte) string {
	b.t.Helper()
	line := b.pty()
	daemon := b.run()
	send(b.t, line, join(frames))
	daemon.stop()
	records := b.records()
	if len(records) != 1 {
		b.t.Fatalf("%d records, want 1", len(records))
	}
	return records[0]
}

// groundFrames are frames of a vehicle that has not armed yet: they make one record.
func groundFrames(t testing.TB, seed uint64) [][]byte {
	t.Helper()
	var all [][]byte
	for _, f := range flightFrames(t, vehicle.Options{Seed: seed, Duration: 30 * time.Second, Camera: true}) {
		if armed, known := isArmed(f); known && armed {
			return all
		}
		all = append(all, f)
	}
	t.Fatal("the vehicle never armed")
	return nil
}

func TestStockToolsOpenAClosedSegment(t *testing.T) {
	t.Parallel()
	zstdProgram(t)
	b := newBoard(t)
	frames := groundFrames(t, 11)
	record := b.recordOnce(frames)
	key := stockKey(t, b.operator, filepath.Join(record, "flight.key.age"))
	wantFrames(t, "closed segment", stockFrames(t, key, record), frames)
	if s := b.open(0); len(s) != 1 || s[0].State != "clean" {
		t.Errorf("open says %+v", s)
	}
}

// A segment that was never closed: the recorder is killed.
func TestStockToolsOpenACutSegment(t *testing.T) {
	t.Parallel()
	zstdProgram(t)
	b := newBoard(t, `flush_idle = "200ms"`)
	frames := groundFrames(t, 12)
	line, daemon := b.pty(), b.record()
	// In two parts, so that there is more than one flush in the segment.
	send(t, line, join(frames[:len(frames)/2]))
	b.waitSealed(1)
	send(t, line, join(frames[len(frames)/2:]))
	b.waitDurable(len(frames))
	daemon.kill()
	record := b.records()[0]
	if open, _ := filepath.Glob(filepath.Join(record, "*.open.age")); len(open) != 1 {
		t.Fatalf("open segments: %v", open)
	}
	key := stockKey(t, b.operator, filepath.Join(record, "flight.key.age"))
	wantFrames(t, "cut segment", stockFrames(t, key, record), frames)
	wantFrames(t, "holdfast open", allFrames(b.open(3)), frames)
}

// waitSealed waits until segments hold at least so many whole chunks.
func (b *board) waitSealed(chunks int64) {
	b.t.Helper()
	waitFor(b.t, patience, fmt.Sprintf("%d sealed chunks", chunks), func() bool { return b.sealedBytes() > chunks<<16 })
}

// waitDurable waits until a reader of the vault finds so many frames in it. The vault never stands
// still by itself: what the board sends is recorded too.
func (b *board) waitDurable(frames int) {
	b.t.Helper()
	got := 0
	if !eventually(sortiePatience, func() bool {
		if len(b.records()) > 0 {
			got = len(allFrames(b.peek()))
		}
		return got >= frames
	}) {
		b.t.Fatalf("%d frames are durable, want %d; status %v", got, frames, b.health())
	}
}

func (b *board) sealedBytes() (total int64) {
	for _, r := range b.records() {
		files, _ := filepath.Glob(filepath.Join(r, "T*"))
		for _, f := range files {
			if info, err := os.Stat(f); err == nil {
				total += info.Size()
			}
		}
	}
	return total
}

// Classical and post-quantum recipients cannot share an age file: each group has its own.
func TestStockToolsMixedRecipients(t *testing.T) {
	t.Parallel()
	zstdProgram(t)
	b := newBoard(t)
	classic, r2 := newIdentity(t, "--classic")
	second, r3 := newIdentity(t)
	stranger, _ := newIdentity(t)
	writeFile(t, b.path("recipients.txt"), "# crew\n"+string(readFile(t, b.path("recipients.txt")))+r2+"\n\n"+r3+"\n")
	frames := groundFrames(t, 13)
	record := b.recordOnce(frames)
	for _, tc := range []struct{ identity, opens, not string }{
		{b.operator, "flight.key.age", "flight.key.2.age"},
		{second, "flight.key.age", "flight.key.2.age"},
		{classic, "flight.key.2.age", "flight.key.age"},
	} {
		key := stockKey(t, tc.identity, filepath.Join(record, tc.opens))
		wantFrames(t, tc.opens, stockFrames(t, key, record), frames)
		if r := ageDecrypt(t, tc.identity, readFile(t, filepath.Join(record, tc.not))); r.code == 0 {
			t.Errorf("%s opens for an identity that it was not sealed to", tc.not)
		}
		b.operator = tc.identity
		wantFrames(t, "holdfast open", allFrames(b.open(0)), frames)
	}
	if r := ageDecrypt(t, stranger, readFile(t, filepath.Join(record, "flight.key.age"))); r.code == 0 {
		t.Error("a stranger's identity opens the flight key")
	}
}

// The two-person rule with stock age alone: two steps, and one identity is not enough.
func TestStockToolsTwoPersons(t *testing.T) {
	t.Parallel()
	zstdProgram(t)
	b := newBoard(t)
	first, r1 := newIdentity(t)
	second, r2 := newIdentity(t, "--classic")
	writeFile(t, b.path("recipients.txt"), r1+" + "+r2+"\n")
	frames := groundFrames(t, 14)
	record := b.recordOnce(frames)
	wrapped := readFile(t, filepath.Join(record, "flight.key.age"))
	if r := ageDecrypt(t, second, wrapped); r.code == 0 {
		t.Error("the second identity opens the outer lock")
	}
	outer := ageDecrypt(t, first, wrapped)
	if outer.code != 0 || strings.Contains(outer.stdout, "AGE-SECRET-KEY") {
		t.Fatalf("outer lock: exit code %d, or the key stands behind one lock only", outer.code)
	}
	inner := ageDecrypt(t, second, []byte(outer.stdout))
	if inner.code != 0 {
		t.Fatalf("inner lock: exit code %d: %s", inner.code, inner.stderr)
	}
	key := writeFile(t, b.path("flight.key"), inner.stdout)
	wantFrames(t, "two persons", stockFrames(t, key, record), frames)
	for _, one := range []string{first, second} {
		if r := run(t, "holdfast", "open", b.vault(), "-i", one, "-o", filepath.Join(t.TempDir(), "o")); r.code != 5 {
			t.Errorf("open with one of two identities: exit code %d, want 5: %s", r.code, r.stderr)
		}
	}
	out := filepath.Join(t.TempDir(), "o")
	must(t, "holdfast", "open", b.vault(), "-i", first, "-i", second, "-o", out)
	wantFrames(t, "holdfast open", allFrames(readOpened(t, out)), frames)
}
