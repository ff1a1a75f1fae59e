package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// closedSegments is how many segments are closed before the scan.
const closedSegments = 50

// needle is something to look for in a memory.
type needle struct {
	what string
	data []byte
}

// haystack looks for many needles at once: by their first 8 bytes.
type haystack struct {
	first   [1 << 16]bool
	needles map[uint64][]needle
}

func newHaystack(needles []needle) *haystack {
	h := &haystack{needles: map[uint64][]needle{}}
	for _, n := range needles {
		h.first[binary.LittleEndian.Uint16(n.data)] = true
		k := binary.LittleEndian.Uint64(n.data)
		h.needles[k] = append(h.needles[k], n)
	}
	return h
}

// search finds the needles that begin in the first end bytes of p.
func (h *haystack) search(p []byte, end int, found map[string]int) {
	for i := 0; i < end && i+8 <= len(p); i++ {
		if !h.first[binary.LittleEndian.Uint16(p[i:])] {
			continue
		}
		for _, n := range h.needles[binary.LittleEndian.Uint64(p[i:])] {
			if bytes.HasPrefix(p[i:], n.data) {
				found[n.what]++
			}
		}
	}
}

// scanMemory searches all readable and writable mappings of a process. It returns what was
// found, how often, and how many bytes were read.
func scanMemory(t testing.TB, pid int, needles []needle) (found map[string]int, scanned int64) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Skipf("the memory of the recorder cannot be read (needs root): %v", err)
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("the memory of the recorder cannot be read (needs root): %v", err)
	}
	defer mem.Close()
	h := newHaystack(needles)
	found = map[string]int{}
	for s := bufio.NewScanner(maps); s.Scan(); {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(s.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		scanned += scanRange(mem, from, to, h, found)
	}
	return found, scanned
}

// scanRange reads a mapping in pieces that overlap by more than a needle. Pages that were never
// touched read as zeros; a hole ends nothing.
func scanRange(mem *os.File, from, to int64, h *haystack, found map[string]int) (scanned int64) {
	const piece, overlap = 1 << 20, 256
	buf := make([]byte, piece+overlap)
	for at := from; at < to; at += piece {
		n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
		scanned += int64(min(n, piece))
		end := min(n, piece) // what begins in the overlap is found by the next piece
		h.search(buf[:n], end, found)
	}
	return scanned
}

// linkSegments keeps a hard link of every segment file that appears in the vault, so that the
// keys of the open forms are known after they are gone.
func (b *board) linkSegments(to string, stop <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		for _, record := range b.records() {
			files, _ := filepath.Glob(filepath.Join(record, "T*.age*"))
			for _, f := range files {
				_ = os.Link(f, filepath.Join(to, filepath.Base(record)+"-"+filepath.Base(f)))
			}
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// flightIdentities unlocks every record with the operator's key.
func (b *board) flightIdentities() (ids map[string]*age.HybridIdentity, secrets []needle) {
	b.t.Helper()
	ids = map[string]*age.HybridIdentity{}
	operator, err := age.ParseIdentities(bytes.NewReader(readFile(b.t, b.operator)))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, record := range b.records() {
		r, err := age.Decrypt(bytes.NewReader(readFile(b.t, filepath.Join(record, "flight.key.age"))), operator...)
		if err != nil {
			b.t.Fatal(err)
		}
		secret, err := io.ReadAll(r)
		if err != nil {
			b.t.Fatal(err)
		}
		line := strings.TrimSpace(string(secret))
		id, err := age.ParseHybridIdentity(line)
		if err != nil {
			b.t.Fatal(err)
		}
		ids[filepath.Base(record)] = id
		secrets = append(secrets, needle{filepath.Base(record) + " secret string", []byte(line[:60])},
			needle{filepath.Base(record) + " end of the secret string", []byte(line[len(line)-40:])})
	}
	return ids, secrets
}

// segmentKeys returns the file key and the payload key of a sealed file (C2SP age.md, "Payload").
func segmentKeys(t testing.TB, path string, id age.Identity) (fileKey, payloadKey []byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	header, err := age.ExtractHeader(bufio.NewReader(f))
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	fileKey, err = age.DecryptHeader(header, id)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	nonce := make([]byte, 16)
	if _, err := f.ReadAt(nonce, int64(len(header))); err != nil {
		t.Fatal(err)
	}
	payloadKey, err = hkdf.Key(sha256.New, fileKey, nonce, "payload", 32)
	if err != nil {
		t.Fatal(err)
	}
	return fileKey, payloadKey
}

// TestKeysAreWipedFromMemory: after 50 closed segments the recorder's memory holds none of
// their keys, in neither form, and never held the secret of a flight. Three controls: the
// scan finds the key of the segment that is open now, a string that the recorder must hold,
// and a key planted in this process.
func TestKeysAreWipedFromMemory(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("runtime/secret wipes on amd64 and arm64 only")
	}
	b := newBoard(t)
	links := t.TempDir()
	line, daemon := b.pty(), b.record()
	stopLinks, linksDone := make(chan struct{}), make(chan struct{})
	go func() { defer close(linksDone); b.linkSegments(links, stopLinks) }()
	seq := b.closeSegments(line.Write)
	// A flight begins a second record; its key is made by the short-lived child too.
	send(t, line, append(heartbeat(0, 1, 1, true), randomFrames(mathrand.New(mathrand.NewPCG(8, 8)), seq, 2000)...))
	b.waitDurable(seq + 2001)
	close(stopLinks)
	<-linksDone
	b.scanForKeys(daemon.cmd.Process.Pid, links)
	b.scanControl()
	daemon.stop()
	if out := daemon.errs.String(); strings.Contains(out, "AGE-SECRET") {
		t.Error("a secret was printed")
	}
}

// closeSegments writes frames that do not compress until 50 segments are closed.
func (b *board) closeSegments(write func([]byte) (int, error)) (seq int) {
	b.t.Helper()
	r := mathrand.New(mathrand.NewPCG(9, 9))
	deadline := time.Now().Add(2 * patience)
	for b.closed() < closedSegments {
		if time.Now().After(deadline) {
			b.t.Fatalf("%d segments closed within %v", b.closed(), 2*patience)
		}
		if _, err := write(randomFrames(r, seq, 2000)); err != nil {
			b.t.Fatal(err)
		}
		seq += 2000
	}
	return seq
}

func (b *board) closed() int {
	files, _ := filepath.Glob(filepath.Join(b.vault(), "????????", "[FG]????????", "T??????.age"))
	return len(files)
}

func (b *board) scanForKeys(pid int, links string) {
	b.t.Helper()
	ids, needles := b.flightIdentities()
	files, _ := filepath.Glob(filepath.Join(links, "*"))
	var live []needle
	open, closed := 0, 0
	for _, f := range files {
		record, name, _ := strings.Cut(filepath.Base(f), "-")
		if strings.HasSuffix(name, ".tmp") {
			continue // the closed form before its name
		}
		fileKey, payloadKey := segmentKeys(b.t, f, ids[record])
		pair := []needle{{filepath.Base(f) + " file key", fileKey}, {filepath.Base(f) + " payload key", payloadKey}}
		_, err := os.Stat(filepath.Join(b.device(), record, name))
		switch {
		case strings.HasSuffix(name, ".open.age") && err == nil:
			live = append(live, pair...)
			continue
		case strings.HasSuffix(name, ".open.age"):
			open++
		default:
			closed++
		}
		needles = append(needles, pair...)
	}
	if open < closedSegments || closed < closedSegments || len(live) == 0 {
		b.t.Fatalf("keys of %d open and %d closed forms are known, and of %d live ones", open, closed, len(live)/2)
	}
	found, scanned := scanMemory(b.t, pid, needles)
	for what, n := range found {
		b.t.Errorf("in the recorder's memory, %d times: %s", n, what)
	}
	b.t.Logf("%d keys and secrets of %d open and %d closed forms, %d MiB of memory, %d found", len(needles), open, closed, scanned>>20, len(found))
	public := bytes.TrimSpace(readFile(b.t, filepath.Join(b.device(), "LOG", "device.pub")))
	live = append(live, needle{"device.pub", public})
	found, _ = scanMemory(b.t, pid, live)
	if found["device.pub"] == 0 || len(found) < 2 {
		b.t.Errorf("control: the scan finds only %v; it must find device.pub and the key of the open segment", found)
	}
}

// scanControl scans this process for a key that it holds in one place of its own.
func (b *board) scanControl() {
	b.t.Helper()
	page, err := unix.Mmap(-1, 0, 3*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		b.t.Fatal(err)
	}
	defer unix.Munmap(page)
	key := make([]byte, 16)
	rand.Read(key)
	copy(page[os.Getpagesize()-5:], key) // over the edge of a page, at an odd address
	found, _ := scanMemory(b.t, os.Getpid(), []needle{{"planted", key}})
	if found["planted"] == 0 {
		b.t.Error("control: the scan does not find a planted key")
	}
}
