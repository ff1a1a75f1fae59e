// Command peer is what the recorder is measured beside. It reads a pseudo-terminal until that
// hangs up and writes a file, without a sync and without sealing anything, in one of two ways:
//
//	peer gomavlib TTY FILE   gomavlib's frame.Reader, each frame into a plain .tlog
//	peer copy     TTY FILE   read and write, nothing else: the limit
//
// It is a program of its own so that its memory is that of the job alone.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/frame"
	"github.com/bluenviron/gomavlib/v3/pkg/tlog"
	"golang.org/x/sys/unix"
)

// readSize is more than a pseudo-terminal gives at once.
const readSize = 32 << 10

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: peer gomavlib|copy TTY FILE")
	}
	in, err := unix.Open(args[1], unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", args[1], err)
	}
	out, err := os.Create(args[2])
	if err != nil {
		return err
	}
	switch args[0] {
	case "copy":
		err = plainCopy(in, out)
	case "gomavlib":
		err = gomavlib(in, out)
	default:
		err = fmt.Errorf("%s: no such peer", args[0])
	}
	return errors.Join(err, out.Close())
}

// tty reads a terminal by plain system calls. A hang-up is the end.
type tty int

func (t tty) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(t), b)
		switch {
		case n > 0:
			return n, nil
		case err == unix.EINTR:
		case err == nil, err == unix.EIO:
			return 0, io.EOF
		default:
			return 0, fmt.Errorf("read terminal: %w", err)
		}
	}
}

func plainCopy(in int, out *os.File) error {
	b := make([]byte, readSize)
	for {
		n, err := tty(in).Read(b)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			_, err = unix.Write(int(out.Fd()), b[:n])
		}
		if err != nil {
			return err
		}
	}
}

// gomavlib hands what it has to the file whenever it would have to wait for more.
func gomavlib(in int, out *os.File) error {
	src := bufio.NewReaderSize(tty(in), readSize)
	r := &frame.Reader{BufByteReader: src}
	if err := r.Initialize(); err != nil {
		return err
	}
	buf := bufio.NewWriterSize(out, 2*readSize)
	w := &tlog.Writer{ByteWriter: buf}
	if err := w.Initialize(); err != nil {
		return err
	}
	for {
		f, err := r.Read()
		if errors.Is(err, io.EOF) {
			return buf.Flush()
		}
		if _, bad := errors.AsType[frame.ReadError](err); bad {
			continue // not fatal, as the package says
		}
		if err == nil {
			err = w.Write(&tlog.Entry{Time: time.Now(), Frame: f})
		}
		if err == nil && src.Buffered() == 0 {
			err = buf.Flush()
		}
		if err != nil {
			return err
		}
	}
}
