package firmware

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/firmware/config"
)

// TestRecorderEndsLast: the recorder is told to end when the media process has ended, so that what cameras
// gave last has somebody to take it; and when that takes too long, all the same.
func TestRecorderEndsLast(t *testing.T) {
	for name, hangs := range map[string]bool{"in good order": false, "media hangs": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			note := func(what string) string { return "date +%s%N >" + filepath.Join(dir, what) }
			// A program that says when it was told to end, and when it does, after a while.
			part := func(name string, while string) []string {
				return []string{"sh", "-c", fmt.Sprintf("trap '%s; sleep %s; %s; exit 0' TERM; %s; while :; do sleep 0.02; done", note(name+"-told"), while, note(name+"-ended"), note(name+"-up"))}
			}
			media := part("media", "0.4")
			if hangs {
				media = part("media", "5")
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				cfg := &config.Config{Lock: config.Lock{Mode: config.ModeBench}, Camera: []config.Camera{{Name: "front"}}}
				ended <- Run(ctx, cfg, Commands{Record: part("record", "0"), Media: media}, slog.New(slog.NewTextHandler(io.Discard, nil)))
			}()
			at := func(what string) int64 {
				for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
					p, err := os.ReadFile(filepath.Join(dir, what))
					var n int64
					if _, err2 := fmt.Sscan(string(p), &n); err == nil && err2 == nil {
						return n
					}
				}
				t.Fatalf("not seen: %s", what)
				return 0
			}
			at("media-up")
			at("record-up")
			cancel()
			told := at("record-told")
			if !hangs {
				if over := at("media-ended"); told < over {
					t.Errorf("the recorder was told %v before the media process ended", time.Duration(over-told))
				}
			} else if _, err := os.Stat(filepath.Join(dir, "media-ended")); err == nil {
				t.Error("the recorder waited for a media process that hangs")
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
