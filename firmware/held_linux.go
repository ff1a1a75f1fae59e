package firmware

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
)

// heldName is the file by which a recorder whose medium was taken away leaves to the next one what it
// could not write. It lies in memory alone: what is in it is not sealed.
const heldName = "held"

const (
	heldHead = "holdfast held v1 "
	// heldMost bounds it: more than ring and vault can hold.
	heldMost = 64 << 20
)

// heldFile is that file, open since before the process was confined. A nil one holds nothing.
type heldFile struct {
	f    *os.File
	head []byte // of this start of the kernel
	log  *slog.Logger
}

// heldPath is where it lies; empty: nowhere.
func heldPath(o Options) string {
	switch run := runPath(o); {
	case run == "":
		return ""
	case o.Config.Bench():
		return filepath.Join(run, heldName)
	default:
		return heldLocked(o.Config)
	}
}

func heldLocked(cfg *config.Config) string {
	return filepath.Join(cfg.Lock.Run, filepath.Dir(evidence.RecorderFile), heldName)
}

// openHeld opens the file and reads what is in it; it stays there until taken. Where it would not lie in
// memory there is none.
func openHeld(o Options) (h *heldFile, held []byte) {
	path := heldPath(o)
	if path == "" || inMemory(filepath.Dir(path)) != nil {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		o.Log.Warn("what a medium that is taken away leaves in memory would be lost", slog.Any("err", plain(err)))
		return nil, nil
	}
	h = &heldFile{f: f, head: []byte(heldHead + bootID() + "\n"), log: o.Log}
	if held, err = io.ReadAll(io.LimitReader(f, heldMost)); err != nil {
		o.Log.Warn("held frames", slog.Any("err", plain(err)))
	}
	held, ok := bytes.CutPrefix(held, h.head)
	if !ok {
		return h, nil
	}
	return h, held
}

// taken empties the file: a recorder that runs has what was in it.
func (h *heldFile) taken() {
	if h == nil {
		return
	}
	_, err := h.f.Seek(0, io.SeekStart)
	if err = errors.Join(err, h.f.Truncate(0)); err != nil {
		h.log.Warn("held frames", slog.Any("err", plain(err)))
	}
}

// leave writes what the next recorder is to take.
func (h *heldFile) leave(held []byte) {
	if h == nil || len(held) == 0 {
		return
	}
	if len(held)+len(h.head) > heldMost {
		h.log.Error("frames are lost: too many to hold over")
		return
	}
	if _, err := h.f.Write(append(h.head, held...)); err != nil {
		h.log.Error("frames are lost", slog.Any("err", plain(err)), slog.Int("bytes", len(held)))
	}
}

func (h *heldFile) close() {
	if h != nil {
		_ = h.f.Close()
	}
}
