package link

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"holdfast/mavlink/serial"
)

// fileSource is the byte stream of a regular file.
type fileSource struct {
	f    *os.File
	done bool // the end was reached, and stays the end should the file grow
}

func openFile(path string) (Source, error) {
	// Looked at first, because opening something else could block or have effects.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotFile}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &fileSource{f: f}, nil
}

// Read never waits: a file has its bytes, or has ended.
func (s *fileSource) Read(b []byte, _ time.Duration) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if s.done {
		b = b[:0] // finds out whether the file is still open
	}
	n, err := s.f.Read(b)
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, os.ErrClosed):
		return 0, os.ErrClosed
	case s.done || errors.Is(err, io.EOF):
		s.done = true
		return 0, io.EOF
	}
	return 0, err
}

func (s *fileSource) Close() error {
	if err := s.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return os.ErrClosed
}

func (s *fileSource) LineErrors() (serial.LineErrors, bool) { return serial.LineErrors{}, false }
func (s *fileSource) HoldsBack() bool                       { return true }
