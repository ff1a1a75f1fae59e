// Package memscan looks for secrets in the memory of a running process, for tests that show that
// keys are wiped. It reads Linux's /proc/PID/maps and /proc/PID/mem (proc(5)); elsewhere Process
// fails. No program uses it.
package memscan

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	// least is the shortest value that can be looked for, and most the longest, in bytes.
	least, most = 8, 64
	// piece is how much is read at a time.
	piece = 4 << 20
)

// Search finds any of many values in one pass over memory. Not safe for concurrent use.
type Search struct {
	first  [1 << 16]bool // first two bytes of a value
	values map[uint64][][]byte
	seen   map[string]bool
}

// New returns a search for values of 8 to 64 bytes; it panics on others.
func New(values ...[]byte) *Search {
	s := &Search{values: map[uint64][][]byte{}, seen: map[string]bool{}}
	for _, v := range values {
		if len(v) < least || len(v) > most {
			panic("memscan: a value of a length that it cannot look for")
		}
		s.first[binary.LittleEndian.Uint16(v)] = true
		h := binary.LittleEndian.Uint64(v)
		s.values[h] = append(s.values[h], v)
	}
	return s
}

// Found tells whether a value was seen.
func (s *Search) Found(value []byte) bool { return s.seen[string(value)] }

// Process scans every mapping of a process that it may write, and returns the bytes read. The
// error is os.ErrPermission where the system does not let one process read another's memory.
func (s *Search) Process(pid int) (scanned int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var perms string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); err != nil {
			return scanned, fmt.Errorf("parse %q: %w", line, err)
		}
		if !strings.HasPrefix(perms, "rw") || strings.Contains(line, "[vvar") {
			continue
		}
		n, err := s.mapping(mem, int64(from), int64(to))
		scanned += n
		if err != nil {
			return scanned, err
		}
	}
	return scanned, nil
}

// mapping scans one mapping, in pieces that overlap by the longest value.
func (s *Search) mapping(mem io.ReaderAt, from, to int64) (scanned int64, err error) {
	buf := make([]byte, piece+most)
	for off := from; off < to; off += piece {
		n, err := mem.ReadAt(buf[:min(int64(len(buf)), to-off)], off)
		s.scan(buf[:n])
		scanned += int64(n)
		if err != nil && n == 0 {
			return scanned, fmt.Errorf("read memory at %x: %w", off, err)
		}
	}
	return scanned, nil
}

// scan looks at each position of b. It has its own memory, and would take most of a run under
// the race detector.
//
//go:norace
func (s *Search) scan(b []byte) {
	for i := 0; i+least <= len(b); i++ {
		if !s.first[uint16(b[i])|uint16(b[i+1])<<8] {
			continue
		}
		for _, v := range s.values[binary.LittleEndian.Uint64(b[i:])] {
			if bytes.HasPrefix(b[i:], v) {
				s.seen[string(v)] = true
			}
		}
	}
}
