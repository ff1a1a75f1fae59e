//go:build linux

package seal_test

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"

	"holdfast/crypto/internal/memscan"
	"holdfast/crypto/seal"
)

// The memory scan looks for keys in another process: the child seals and waits, the parent
// alone can unwrap the keys it searches for. So nothing of the test leaves them in the
// memory that is searched.
const (
	scanDirEnv       = "HOLDFAST_TEST_SCAN_DIR"
	scanRecipientEnv = "HOLDFAST_TEST_SCAN_RECIPIENT"
	scanSegments     = 50
)

func TestMemoryScan(t *testing.T) {
	if !seal.Wipes() {
		t.Skip("this build has no runtime/secret, or it does nothing here: keys are not erased")
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pid, done := startScanChild(t, dir, id.Recipient().String())
	defer done()

	var closed [][]byte
	for i := range scanSegments {
		closed = append(closed, keysOf(t, segmentName(dir, i), id)...)
	}
	open := keysOf(t, filepath.Join(dir, "open.age"), id)
	left, err := os.ReadFile(filepath.Join(dir, "left"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(left)

	s := memscan.New(slices.Concat(closed, open, [][]byte{left})...)
	scanned, err := s.Process(pid)
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("this system does not let a process read the memory of its child: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("searched %d MiB for %d keys of %d closed segments", scanned>>20, len(closed), scanSegments)
	if !s.Found(left) {
		t.Error("control: the value left in memory on purpose was not found")
	}
	if !s.Found(open[1]) {
		t.Error("control: the payload key of the open segment was not found")
	}
	for i, k := range closed {
		if s.Found(k) {
			t.Errorf("segment %d: %s is still in memory", i/2, [2]string{"file key", "payload key"}[i%2])
		}
	}
}

// startScanChild runs TestMemoryScanChild in a process of its own and waits until it has
// sealed. done lets it end.
func startScanChild(t *testing.T, dir, recipient string) (pid int, done func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryScanChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), scanDirEnv+"="+dir, scanRecipientEnv+"="+recipient)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("this binary runs in an emulator, and the kernel cannot start it as a child")
	}
	if err != nil {
		t.Fatal(err)
	}
	done = func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			done()
			t.Fatalf("child ended before it had sealed: %v", err)
		}
		if strings.TrimSpace(line) == "sealed" {
			return cmd.Process.Pid, done
		}
	}
}

// leftOnPurpose is what the scan must find.
var leftOnPurpose [16]byte

// TestMemoryScanChild is the other process of TestMemoryScan.
func TestMemoryScanChild(t *testing.T) {
	dir := os.Getenv(scanDirEnv)
	if dir == "" {
		t.Skip("runs as a child of TestMemoryScan")
	}
	to, err := age.ParseHybridRecipient(os.Getenv(scanRecipientEnv))
	if err != nil {
		t.Fatal(err)
	}
	for i := range scanSegments {
		s, f := sealSome(t, segmentName(dir, i), to)
		if i%5 == 4 {
			s.Abandon()
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	open, f := sealSome(t, filepath.Join(dir, "open.age"), to)
	defer f.Close()
	defer open.Abandon()
	leaveOnPurpose(t, filepath.Join(dir, "left"))
	seal.Wipe()
	fmt.Println("sealed")
	io.Copy(io.Discard, os.Stdin)
}

// leaveOnPurpose keeps a random value, and writes it down in reverse, so that only the
// memory of this process holds it as it is.
func leaveOnPurpose(t *testing.T, name string) {
	t.Helper()
	rand.Read(leftOnPurpose[:])
	b := slices.Clone(leftOnPurpose[:])
	slices.Reverse(b)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sealSome writes a segment with several writes, chunks and flushes.
func sealSome(t *testing.T, name string, to age.Recipient) (*seal.Sealer, *os.File) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.New(f, to)
	if err != nil {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte{0x50}, 3000)
	for range 50 {
		if _, err := s.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := s.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	return s, f
}

func segmentName(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("%03d.age", i)) }

// keysOf returns the file key and the payload key of an age file.
func keysOf(t *testing.T, name string, id age.Identity) [][]byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	header, err := age.ExtractHeader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	fileKey, err := age.DecryptHeader(header, id)
	if err != nil {
		t.Fatal(err)
	}
	payloadKey, err := hkdf.Key(sha256.New, fileKey, b[len(header):][:16], "payload", 32)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{fileKey, payloadKey}
}
