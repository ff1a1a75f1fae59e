package tlog

import (
	"bufio"
	"encoding/binary"
	"io"
)

// Writer writes a log through a buffer. After an error it keeps returning that error. Not
// safe for concurrent use.
type Writer struct {
	w *bufio.Writer
}

// NewWriter returns a Writer to w. Closing w is up to the caller, after Flush.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, MaxStray)}
}

// WriteEntry writes one entry: a stamp in microseconds since 1970 and a frame. It keeps no
// reference to raw and does not look into it; what is no frame will be read back as strays.
func (w *Writer) WriteEntry(timeUsec uint64, raw []byte) error {
	stamp := binary.BigEndian.AppendUint64(w.w.AvailableBuffer(), timeUsec)
	if _, err := w.w.Write(stamp); err != nil {
		return err
	}
	_, err := w.w.Write(raw)
	return err
}

// Flush hands what is buffered to the underlying writer.
func (w *Writer) Flush() error { return w.w.Flush() }
