//go:build linux

package custody_test

import (
	"bufio"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/crypto/custody"
	"holdfast/crypto/internal/memscan"
)

// The memory scan looks for keys in another process: the child runs through epochs and waits,
// the parent searches its memory. The child writes the seeds down inverted, so that nothing
// of the test leaves one of them in the memory that is searched.
const (
	scanDirEnv = "HOLDFAST_TEST_SCAN_DIR"
	scanLogs   = 3  // logs that were closed
	scanEpochs = 20 // of each log
)

// TestEpochKeysWiped searches the memory of a recorder for the keys of its past epochs.
func TestEpochKeysWiped(t *testing.T) {
	if !custody.Wipes() {
		t.Skip("this build has no runtime/secret, or it does nothing here: what signing left is not erased")
	}
	dir := t.TempDir()
	pid, done := startScanChild(t, dir)
	defer done()

	seeds := readInverted(t, filepath.Join(dir, "seeds"))
	left := readInverted(t, filepath.Join(dir, "left"))[0]
	if want := (scanLogs + 1) * (scanEpochs + 1); len(seeds) != want {
		t.Fatalf("%d seeds, want %d", len(seeds), want)
	}
	current := seeds[len(seeds)-1]
	past := seeds[:len(seeds)-1]

	wanted := [][]byte{left}
	for _, seed := range seeds {
		for _, form := range keyForms(seed) {
			wanted = append(wanted, form.bytes)
		}
	}
	s := memscan.New(wanted...)
	scanned, err := s.Process(pid)
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("this system does not let a process read the memory of its child: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("searched %d MiB for %d keys of past epochs", scanned>>20, len(past))
	if !s.Found(left) {
		t.Error("control: the value left in memory on purpose was not found")
	}
	for _, form := range keyForms(current) {
		if !s.Found(form.bytes) {
			t.Errorf("control: the %s of the key in force was not found", form.name)
		}
	}
	for i, seed := range past {
		for _, form := range keyForms(seed) {
			if s.Found(form.bytes) {
				t.Errorf("key %d of %d: its %s is still in memory", i, len(past), form.name)
			}
		}
	}
}

type keyForm struct {
	name  string
	bytes []byte
}

// keyForms returns what lets one sign with a key: RFC 8032's seed, and the two halves that are
// made from it, the scalar in Montgomery form as crypto/ed25519 holds it.
func keyForms(seed []byte) []keyForm {
	h := sha512.Sum512(seed)
	clamped := slices.Clone(h[:32])
	clamped[0] &= 248
	clamped[31] = clamped[31]&63 | 64
	slices.Reverse(clamped)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	x := new(big.Int).SetBytes(clamped)
	x.Lsh(x, 256).Mod(x, order)
	scalar := x.FillBytes(make([]byte, 32))
	slices.Reverse(scalar)
	return []keyForm{{"seed", seed}, {"prefix", h[32:]}, {"scalar", scalar}}
}

func startScanChild(t *testing.T, dir string) (pid int, done func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestEpochKeysWipedChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), scanDirEnv+"="+dir)
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
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			done()
			t.Fatalf("child ended before it was ready: %v", err)
		}
		if strings.TrimSpace(line) == "ready" {
			return cmd.Process.Pid, done
		}
	}
}

// leftOnPurpose is what the scan must find.
var leftOnPurpose [32]byte

// TestEpochKeysWipedChild is the other process of TestEpochKeysWiped.
func TestEpochKeysWipedChild(t *testing.T) {
	dir := os.Getenv(scanDirEnv)
	if dir == "" {
		t.Skip("runs as a child of TestEpochKeysWiped")
	}
	seeds, err := os.Create(filepath.Join(dir, "seeds"))
	if err != nil {
		t.Fatal(err)
	}
	defer seeds.Close()
	rand.Read(leftOnPurpose[:])
	if err := os.WriteFile(filepath.Join(dir, "left"), inverted(leftOnPurpose[:]), 0o600); err != nil {
		t.Fatal(err)
	}

	b := newBoard(t)
	b.rand = readerFunc(func(p []byte) (int, error) {
		rand.Read(p)
		return seeds.Write(inverted(p))
	})
	for range scanLogs {
		l := b.start()
		scanLife(b, l)
		l.Close()
	}
	l := b.start()
	scanLife(b, l)
	runtime.GC()
	runtime.GC()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	l.Close()
}

// scanLife signs in many epochs, one by one and several in a row.
func scanLife(b *board, l *custody.Log) {
	b.must(l.Checkpoint(nil))
	for i := range scanEpochs / 2 {
		b.clock += time.Minute
		b.must(l.Add(lockLeaf()), l.Checkpoint(nil))
		if i%3 == 0 {
			runtime.GC()
		}
	}
	b.clock += (scanEpochs - scanEpochs/2) * time.Minute
	b.must(l.Add(lockLeaf()), l.Checkpoint(nil), l.Checkpoint(nil))
}

func inverted(p []byte) []byte {
	q := make([]byte, len(p))
	for i, c := range p {
		q[i] = ^c
	}
	return q
}

// readInverted returns the values of 32 bytes of a file.
func readInverted(t *testing.T, name string) (values [][]byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for p := range slices.Chunk(b, 32) {
		values = append(values, inverted(p))
	}
	return values
}
