package custody

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

const (
	// readSize is the buffer that all files are hashed through, small enough for the cache.
	readSize = 256 << 10
	// maxSmall bounds device.pub, flight.pub and README.txt, in bytes.
	maxSmall = 4096
	// maxKeyFile bounds flight.key*.age, in bytes.
	maxKeyFile = 64 << 10
)

var (
	errIrregular = errors.New("is not a regular file")
	errTooLong   = errors.New("is longer than it may be")
)

// stateOf maps an error of reading a file to what it says of that file.
func stateOf(err error) Verdict {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return VerdictMissing
	case errors.Is(err, errIrregular), errors.Is(err, errTooLong):
		return VerdictTampered
	}
	return VerdictDamaged
}

func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is not there"
	case errors.Is(err, errIrregular), errors.Is(err, errTooLong):
		return err.Error()
	}
	return "cannot be read: " + plainText(err)
}

// plainText is an error without the path that it may repeat.
func plainText(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// openRegular opens a file, and never what a read could wait for or what leads elsewhere.
func (v *verifier) openRegular(name string) (fs.File, int64, error) {
	info, err := fs.Lstat(v.fsys, name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errIrregular
	}
	f, err := v.fsys.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// small returns the whole of a file that has at most limit bytes.
func (v *verifier) small(name string, limit int) ([]byte, error) {
	f, size, err := v.openRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > int64(limit) {
		return nil, errTooLong
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = errTooLong
	}
	return data, err
}

// claim is what something signed, or at least written to the log, says of a file.
type claim struct {
	bytes int64
	whole bool // the file has no more bytes
	sum   []byte
	leaf  int64 // -1: an open line of a checkpoint
	by    string
}

// hold compares a file with all that is claimed of it, reading it once. It fills in s.
func (v *verifier) hold(name string, s *SegmentReport, claims []claim) {
	f, size, err := v.openRegular(name)
	if err != nil {
		s.fault(stateOf(err), "V13", claims, s.File+" "+reason(err))
		return
	}
	defer f.Close()
	s.Bytes = size
	slices.SortStableFunc(claims, func(a, b claim) int { return int(min(max(a.bytes-b.bytes, -1), 1)) })
	for _, c := range claims {
		if size < c.bytes || c.whole && size > c.bytes {
			s.fault(VerdictTampered, "V13", []claim{c}, fmt.Sprintf("%s has %d bytes, and %s says %d", s.File, size, c.by, c.bytes))
			s.Byte = at(min(size, c.bytes))
			return
		}
	}
	v.sums(f, s, claims)
}

// sums hashes f up to the last claim, and looks at each on the way.
func (v *verifier) sums(f io.Reader, s *SegmentReport, claims []claim) {
	h := sha256.New()
	var done int64
	src := &source{v: v, r: f}
	var sum [sha256.Size]byte
	for _, c := range claims {
		n, err := copyN(h, src, c.bytes-done, v.buf)
		done += n
		if err != nil {
			s.fault(VerdictDamaged, "V13", []claim{c}, fmt.Sprintf("%s cannot be read from byte %d on: %s", s.File, done, plainText(err)))
			s.Byte = at(done)
			return
		}
		if !bytes.Equal(h.Sum(sum[:0]), c.sum) {
			s.fault(VerdictTampered, "V13", []claim{c}, fmt.Sprintf("the first %d bytes of %s are not those that %s names", c.bytes, s.File, c.by))
			return
		}
	}
}

// copyN is io.CopyN through a buffer that is used again.
func copyN(w io.Writer, r io.Reader, n int64, buf []byte) (done int64, err error) {
	for done < n {
		got, err := r.Read(buf[:min(n-done, int64(len(buf)))])
		w.Write(buf[:got]) // a hash never fails
		done += int64(got)
		if err == io.EOF && done < n {
			return done, io.ErrUnexpectedEOF
		}
		if err != nil && done < n {
			return done, err
		}
	}
	return done, nil
}

// fault sets a worse state, with the reason and the leaf that it is held against.
func (s *SegmentReport) fault(state Verdict, rule string, claims []claim, why string) {
	s.State, s.Rule, s.Why = state, rule, why
	if len(claims) > 0 && claims[0].leaf >= 0 {
		s.Leaf = at(claims[0].leaf)
	}
}

// KeyFiles returns leaf K's copies of the wrapped flight keys of r, without those of groups, from
// the folder that was verified. Errors are those of KeyLeaf.
func KeyFiles(fsys fs.FS, r *RecordReport) ([]KeyFile, error) {
	k, err := KeyLeaf(fsys, r)
	if err != nil {
		return nil, err
	}
	return k.Files, nil
}

// KeyLeaf returns leaf K of r from the folder that was verified. An error means that there is
// none, or that the log has changed since.
func KeyLeaf(fsys fs.FS, r *RecordReport) (*FlightKey, error) {
	if r.keyAt < 0 {
		return nil, fmt.Errorf("%s: %w", r.Record, fs.ErrNotExist)
	}
	f, err := fsys.Open(logFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := skip(f, r.keyAt); err != nil {
		return nil, err
	}
	l, err := NewReader(f).Next()
	if err != nil {
		return nil, err
	}
	e, err := l.Entry()
	if err != nil {
		return nil, err
	}
	k, ok := e.(*FlightKey)
	if !ok || l.Hash() != r.key {
		return nil, fmt.Errorf("%w: log.bin has changed", ErrLeaf)
	}
	return k, nil
}

func skip(f fs.File, n int64) error {
	if s, ok := f.(io.Seeker); ok {
		_, err := s.Seek(n, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, f, n)
	return err
}

// isBeginning tells a file that a cut kept from being written to its end: a beginning of want,
// and zero bytes behind.
func isBeginning(data []byte, want string) bool {
	return len(data) <= len(want) && strings.HasPrefix(want, strings.TrimRight(string(data), "\x00"))
}
