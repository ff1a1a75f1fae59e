package flight

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"

	"holdfast/storage/segment"
)

// A log with holes is written with zeros in them. A message that a hole cuts then looks whole,
// and its zeros look like measurements; some readers lose their way. So a second file beside it
// holds the messages that are whole, and nothing else.

// errNoBeginning: without its beginning nobody can tell what the messages of a log mean.
var errNoBeginning = errors.New("the beginning of the log is missing")

// salvageWindow is what a parser can look ahead; it holds the longest message of either format
// and some more.
const salvageWindow = 256 << 10

// salvager writes the whole messages of one row of bytes that is there. first: the row begins
// the file, and with a message.
type salvager interface {
	row(r *bufio.Reader, first bool, w *bufio.Writer) error
}

// salvage writes the whole messages of a log with holes beside it.
func (s *files) salvage(f *file, r *FileReport, holes []segment.Range) error {
	if f.letter != segment.StreamAutopilot || f.meta.Kind != segment.KindLog || len(holes) == 0 || f.goesOn {
		return nil
	}
	var p salvager
	switch extension(r.Name) {
	case "bin":
		p = &dataflash{}
	case "ulg":
		p = newULog()
	default:
		return nil
	}
	if len(f.had) == 0 || f.had[0].From != 0 {
		r.SalvagedWhy = errNoBeginning.Error()
		return nil
	}
	name := strings.TrimSuffix(r.Name, "."+extension(r.Name)) + ".salvaged." + extension(r.Name)
	err := s.salvageTo(name, f, p)
	if errors.Is(err, errNoBeginning) {
		r.SalvagedWhy = err.Error()
		return s.root.Remove(name)
	}
	r.Salvaged = name
	return err
}

func (s *files) salvageTo(name string, f *file, p salvager) error {
	from, err := s.handle(f)
	if err != nil {
		return err
	}
	out, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|noFollow, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 64<<10)
	r := bufio.NewReaderSize(nil, salvageWindow)
	for i, row := range f.had {
		r.Reset(io.NewSectionReader(from, row.From, row.To-row.From))
		if err = p.row(r, i == 0, w); err != nil {
			break
		}
	}
	return errors.Join(err, w.Flush(), out.Close())
}

// skip drops the next n bytes, which are in the window.
func skip(r *bufio.Reader, n int) { _, _ = r.Discard(n) }

// past tells the errors that Peek has at the end of a row.
func past(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// copyNext writes the next n bytes, which are in the window.
func copyNext(r *bufio.Reader, n int, w *bufio.Writer) error {
	p, err := r.Peek(n)
	if err != nil {
		return err
	}
	if _, err := w.Write(p); err != nil {
		return err
	}
	skip(r, n)
	return nil
}
