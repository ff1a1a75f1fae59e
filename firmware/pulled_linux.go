package firmware

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/config"
)

// pulledName is the file, beside the device key, that remembers which of the autopilot's logs were
// pulled, over starts of the board: without it all old logs would be pulled after each of them.
const pulledName = "pulled-logs"

const (
	pulledHead = "holdfast pulled logs v1"
	// pulledMost bounds the file: the newest logs that are remembered, 4 times what an autopilot keeps.
	pulledMost = 2048
	// pulledAfter is how long a log must have been whole before it is noted: what was pulled is on
	// the medium by then, and a log that power took away is pulled again.
	pulledAfter = 10 * time.Second
	pulledSalt  = 16
)

// pulledLogs is what that file holds: salted hashes of number, time and size, so that it tells nobody
// when was flown. It belongs to the goroutine that talks to the autopilot. A file that cannot be
// read or written is told once, and remembers nothing.
type pulledLogs struct {
	log  *slog.Logger
	file *os.File // open for appending; nil: nothing is written
	salt []byte
	have map[string]bool
	wait []pulledLog
}

type pulledLog struct {
	hash string
	at   time.Duration
}

// openPulled opens the file, and makes it where it is missing, before the process is confined. One
// that is too long, or is none, is begun anew: what it knew is pulled once more.
func openPulled(cfg *config.Config, log *slog.Logger) *pulledLogs {
	p := &pulledLogs{log: log, have: map[string]bool{}}
	path := filepath.Join(filepath.Dir(cfg.Vault.DeviceKey), pulledName)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	}
	if err != nil {
		log.Warn("which logs were pulled is not remembered", slog.Any("err", plain(err)))
		return p
	}
	const most = 1 << 20
	if uid, gid := userIDs(RecorderUser); !cfg.Bench() && os.Geteuid() == 0 {
		err = f.Chown(uid, gid) // a recorder that is not started by root goes on with it
	}
	data, err2 := io.ReadAll(io.LimitReader(f, most))
	if err = errors.Join(err, err2); err == nil && !p.parse(data) {
		err = p.begin(f)
	}
	if err != nil {
		log.Warn("which logs were pulled is not remembered", slog.Any("err", plain(errors.Join(err, f.Close()))))
		return p
	}
	p.file = f
	return p
}

// parse reads the file; false: it is none, or has become too long.
func (p *pulledLogs) parse(data []byte) bool {
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	first, rest, whole := bytes.Cut(rest, []byte("\n"))
	salt, err := hex.DecodeString(string(first))
	if string(head) != pulledHead || !whole || err != nil || len(salt) != pulledSalt {
		return false
	}
	p.salt = salt
	for line := range strings.Lines(string(rest)) {
		if line = strings.TrimSpace(line); len(line) == 2*pulledSalt {
			p.have[line] = true
		}
	}
	return len(p.have) <= pulledMost
}

func (p *pulledLogs) begin(f *os.File) error {
	p.have, p.salt = map[string]bool{}, make([]byte, pulledSalt)
	if _, err := rand.Read(p.salt); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteString(pulledHead + "\n" + hex.EncodeToString(p.salt) + "\n")
	return errors.Join(err, f.Sync())
}

func (p *pulledLogs) hash(id uint16, utc, size uint32) string {
	b := binary.BigEndian.AppendUint16(bytes.Clone(p.salt), id)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, utc), size)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:pulledSalt])
}

func (p *pulledLogs) known(id uint16, utc, size uint32) bool {
	return p.salt != nil && p.have[p.hash(id, utc, size)]
}

// pulled notes a log, when it is old enough.
func (p *pulledLogs) pulled(id uint16, utc, size uint32) {
	if p.file != nil {
		p.wait = append(p.wait, pulledLog{p.hash(id, utc, size), sinceBoot()()})
	}
}

// step writes down what has waited for long enough.
func (p *pulledLogs) step(now time.Duration) {
	for len(p.wait) > 0 && now-p.wait[0].at >= pulledAfter {
		h := p.wait[0].hash
		p.wait = p.wait[1:]
		if p.have[h] || p.file == nil {
			continue
		}
		p.have[h] = true
		if _, err := p.file.WriteString(h + "\n"); err != nil && !errors.Is(err, fs.ErrClosed) {
			p.log.Warn("which logs were pulled is not remembered", slog.Any("err", plain(err)))
			_ = p.file.Close()
			p.file = nil
		}
	}
}

func (p *pulledLogs) close() {
	if p.file != nil {
		_ = errors.Join(p.file.Sync(), p.file.Close())
	}
}
