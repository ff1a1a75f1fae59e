package flight

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"holdfast/mavlink"
	"holdfast/mavlink/tlog"
)

// output is the folder of an opened record.
type output struct {
	dir   string
	tlog  *os.File
	noise *os.File
	buf   *bufio.Writer
	nbuf  *bufio.Writer
	entr  []byte
	runs  []noiseRun
	spool *spool
	err   error
}

type noiseRun struct {
	offset, boot, length int64
	link                 uint8
	reason               mavlink.Reason
}

func newOutput(dir string) (*output, error) {
	o := &output{dir: dir}
	var err error
	if o.tlog, err = create(dir, "telemetry.tlog"); err != nil {
		return nil, err
	}
	if o.noise, err = create(dir, "noise.bin"); err != nil {
		return nil, errors.Join(err, o.tlog.Close())
	}
	o.buf, o.nbuf = bufio.NewWriterSize(o.tlog, 256<<10), bufio.NewWriterSize(o.noise, 64<<10)
	return o, nil
}

// create makes a file that only its owner reads: what is opened is no longer sealed.
func create(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
}

// entry writes one .tlog entry with a stamp since boot.
func (o *output) entry(boot int64, raw []byte) error {
	o.entr = tlog.AppendEntry(o.entr[:0], uint64(boot), raw)
	_, err := o.buf.Write(o.entr)
	return err
}

func (o *output) noiseBytes(p []byte) error {
	_, err := o.nbuf.Write(p)
	return err
}

// restamp adds offset to the stamp of each entry, in place. entries were written by entry, so
// each one parses.
func (o *output) restamp(offset int64) error {
	if err := o.buf.Flush(); err != nil {
		return err
	}
	if offset == 0 {
		return nil
	}
	const window = 1 << 20
	buf := make([]byte, window)
	var at int64
	for {
		n, err := o.tlog.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return err
		}
		used := 0
		for used+8 < n {
			size := mavlink.SpanSize(buf[used+8 : n])
			if size == 0 || used+8+size > n {
				break
			}
			stamp := binary.BigEndian.Uint64(buf[used:])
			binary.BigEndian.PutUint64(buf[used:], stamp+uint64(offset))
			used += 8 + size
		}
		if used == 0 {
			return nil
		}
		if _, err := o.tlog.WriteAt(buf[:used], at); err != nil {
			return err
		}
		at += int64(used)
	}
}

// noiseLine is one line of noise.jsonl. Offset counts the bytes received on the link since the
// recorder started; BinOffset is where the run begins in noise.bin.
type noiseLine struct {
	Offset    int64  `json:"offset"`
	Length    int64  `json:"length"`
	BinOffset int64  `json:"bin_offset"`
	Time      string `json:"time"`
	TimeUsec  int64  `json:"time_usec"`
	Reason    string `json:"reason"`
	Link      int    `json:"link"`
}

func (o *output) noiseIndex(utc func(boot int64) (string, int64)) error {
	var bin int64
	return o.jsonLines("noise.jsonl", func(write func(any) error) error {
		for _, r := range o.runs {
			text, usec := utc(r.boot)
			line := noiseLine{r.offset, r.length, bin, text, usec, r.reason.String(), int(r.link)}
			if err := write(line); err != nil {
				return err
			}
			bin += r.length
		}
		return nil
	})
}

func (o *output) jsonLines(name string, fill func(write func(any) error) error) error {
	f, err := create(o.dir, name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	err = fill(enc.Encode)
	return errors.Join(err, w.Flush(), f.Close())
}

func (o *output) summary(s *Summary) error { return o.json("flight.json", s) }

func (o *output) json(name string, s *Summary) error {
	f, err := create(o.dir, name)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		_, err = f.Write(append(data, '\n'))
	}
	return errors.Join(err, f.Close())
}

func (o *output) close() error {
	return errors.Join(o.buf.Flush(), o.nbuf.Flush(), o.tlog.Close(), o.noise.Close(), o.spool.remove())
}

// formatUTC writes microseconds since 1970 as RFC 3339.
func formatUTC(usec int64) string {
	return time.UnixMicro(usec).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// formatBoot writes a time since boot where no clock is known.
func formatBoot(usec int64) string { return fmt.Sprintf("boot+%.6fs", float64(usec)/1e6) }
