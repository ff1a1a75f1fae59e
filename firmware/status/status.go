// Package status is the health file of the board: status.json, made for a script or a person
// that asks whether the board records. It holds no position, no name, no key.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Report is status.json. Its keys are part of CONTRACT; none is ever renamed.
type Report struct {
	State      string `json:"state"` // starting, standby, recording, fault
	Lock       string `json:"lock"`  // locked, bench, open
	Grade      string `json:"grade"` // A, B, none
	Armed      bool   `json:"armed"`
	Record     string `json:"record"` // empty where none is open
	Frames     int64  `json:"frames"`
	Bytes      int64  `json:"bytes"` // received on all links
	Gaps       int64  `json:"gaps"`  // frames missing by their sequence numbers
	NoiseBytes int64  `json:"noise_bytes"`
	RingDrops  int64  `json:"ring_drops"` // frames that found no room in memory
	VaultFree  int64  `json:"vault_free_bytes"`
	LastError  string `json:"last_error"`
	Updated    string `json:"updated"` // the board's own clock, which may be wrong
}

// every is how often the file is written.
const every = time.Second

// File keeps status.json up to date.
type File struct {
	Path   string
	Report func() Report
	Log    *slog.Logger
}

// Run writes the file when ready is closed, then each second until ctx ends, then once more.
// A file that cannot be written is logged once and never stops the recorder.
func (f *File) Run(ctx context.Context, ready <-chan struct{}) {
	select {
	case <-ready:
	case <-ctx.Done():
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	last := ""
	for {
		err := f.Write()
		if err != nil && err.Error() != last {
			f.Log.Warn("status file", slog.Any("err", err))
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Write replaces the file by renaming a new one over it, so that a reader never sees half.
func (f *File) Write() error {
	r := f.Report()
	r.Updated = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".tmp")
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, f.Path)
}
