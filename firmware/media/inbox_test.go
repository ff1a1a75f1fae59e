package media_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/media"
	"holdfast/firmware/mediapipe"
)

// memory makes a folder in memory.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "inbox")
	if err != nil {
		t.Skip("no /dev/shm")
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != 0x01021994 {
		t.Skip("/dev/shm is no tmpfs")
	}
	return dir
}

func inbox(path string) media.Camera {
	return media.Camera{Name: "box", Source: media.SourceInbox, Path: path, Format: "jpg"}
}

func put(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestInbox: each file that is closed, moved there, or was there before arrives whole, with its kind and
// name, and is removed when it is kept.
func TestInbox(t *testing.T) {
	dir := memory(t)
	big := noise(3<<20 + 17)
	put(t, dir, "before.dng", big)
	r, _, stop := start(t, config(inbox(dir)))
	r.await("hello", func() bool { return len(r.hellos) > 0 })
	put(t, dir, "a b.JPG", jpeg(300))
	put(t, dir, "film.mp4", fragmented(t, false))
	put(t, dir, "noname", jpeg(200))
	elsewhere := memory(t)
	put(t, elsewhere, "moved.png", noise(500))
	if err := os.Rename(filepath.Join(elsewhere, "moved.png"), filepath.Join(dir, "moved.png")); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "empty.jpg", nil)
	r.await("five files", func() bool {
		return len(r.order) == 5 && !slices.ContainsFunc(r.order, func(id uint32) bool { return r.files[id].end == nil })
	})
	eventually(t, "the inbox is empty", func() bool { return len(list(t, dir)) == 0 })
	stop()
	want := map[string]struct {
		kind, format string
		data         []byte
	}{
		"before.dng": {"photo", "dng", big}, "a b.JPG": {"photo", "jpg", jpeg(300)}, "film.mp4": {"video", "mp4", fragmented(t, false)},
		"noname": {"photo", "jpg", jpeg(200)}, "moved.png": {"photo", "png", noise(500)},
	}
	for _, f := range r.files {
		w := want[f.begin.Name]
		sum := sha256.Sum256(f.data)
		if f.begin.Kind != w.kind || f.begin.Format != w.format || !bytes.Equal(f.data, w.data) || f.end.SHA256 != hex.EncodeToString(sum[:]) ||
			f.begin.Size != int64(len(w.data)) || f.end.Why != "" || !f.begin.Asks {
			t.Errorf("%+v, %d bytes, %+v", f.begin, len(f.data), f.end)
		}
		if f.begin.Kind == mediapipe.Photo && (f.begin.Index != -1 || f.begin.Trigger != mediapipe.TriggerInbox || f.begin.TakenUsec == 0 || f.begin.UncertaintyUsec < 1e6) {
			t.Errorf("%+v", f.begin)
		}
	}
}

func list(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestInboxRefuses: what is no ordinary file of one name is neither followed nor opened nor removed,
// and told once.
func TestInboxRefuses(t *testing.T) {
	dir, outside := memory(t), memory(t)
	secret := filepath.Join(outside, "secret.jpg")
	put(t, outside, "secret.jpg", []byte("SECRET"))
	for _, err := range []error{
		os.Symlink(secret, filepath.Join(dir, "link.jpg")), os.Link(secret, filepath.Join(dir, "hard.jpg")),
		os.Mkdir(filepath.Join(dir, "folder.jpg"), 0o755), unix.Mkfifo(filepath.Join(dir, "pipe.jpg"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, "esc\x1b[2J.jpg", jpeg(9))
	put(t, dir, "song.mp3", noise(9))
	put(t, dir, "sound.mp4", fragmented(t, true))
	put(t, dir, "sound.ts", transport(true))
	huge, err := os.Create(filepath.Join(dir, "huge.raw"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(huge.Truncate(17<<30), huge.Close()); err != nil {
		t.Fatal(err)
	}
	r, _, stop := start(t, config(inbox(dir)))
	why := map[string]string{
		"link.jpg": "symbolic link", "hard.jpg": "another name", "folder.jpg": "a folder", "pipe.jpg": "not an ordinary file",
		"esc?[2J.jpg": "control characters", "song.mp3": "sound", "sound.mp4": "sound", "sound.ts": "sound", "huge.raw": "too many",
	}
	told := func(name string) (n int) {
		for _, e := range r.events {
			if strings.Contains(e.Detail, fmt.Sprintf("%q", name)) && strings.Contains(e.Detail, why[name]) {
				n++
			}
		}
		return n
	}
	r.await("all refusals", func() bool {
		for name := range why {
			if told(name) == 0 {
				return false
			}
		}
		return true
	})
	before := len(list(t, dir))
	put(t, dir, "good.jpg", jpeg(10))
	r.await("a good one after them", func() bool { return r.ended(0) != nil })
	eventually(t, "only that is removed", func() bool { return len(list(t, dir)) == before })
	stop()
	for name := range why {
		if told(name) != 1 {
			t.Errorf("%s: told %d times", name, told(name))
		}
	}
	if len(r.order) != 1 || before != 9 {
		t.Errorf("%d files, %d were left", len(r.order), before)
	}
}

// TestInboxOnDisk: a folder that is not in memory is refused, in one line that says what to do.
func TestInboxOnDisk(t *testing.T) {
	var fs unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type == 0x01021994 {
		t.Skip("the tests' folder is in memory itself")
	}
	put(t, dir, "a.jpg", jpeg(9))
	r, _, stop := start(t, config(inbox(dir)))
	r.await("a refusal", func() bool { return r.event("camera_failed") != nil })
	stop()
	if e := r.event("camera_failed"); !strings.Contains(e.Detail, "not in memory") || !strings.Contains(e.Detail, "tmpfs") || len(r.order) > 0 {
		t.Errorf("%+v, %d files", e, len(r.order))
	}
}

// TestInboxWaits: a file that somebody is writing is not taken before it is closed, however long that
// takes, whether it was there before or not.
func TestInboxWaits(t *testing.T) {
	dir := memory(t)
	old, err := os.Create(filepath.Join(dir, "old.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	_, _ = old.Write([]byte("half"))
	r, _, stop := start(t, config(inbox(dir)))
	r.await("hello", func() bool { return len(r.hellos) > 0 })
	fresh, err := os.Create(filepath.Join(dir, "fresh.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	_, _ = fresh.Write([]byte("half"))
	for i := range 12 { // rescans go by: each other file takes one at least
		put(t, dir, fmt.Sprintf("%d.jpg", i), jpeg(i+1))
		r.await("another file", func() bool { return r.ended(i) != nil })
		eventually(t, "it is removed", func() bool { return len(list(t, dir)) == 2 })
		pause(60)
	}
	for _, f := range []*os.File{old, fresh} {
		_, _ = f.Write([]byte(" and half"))
		f.Close()
	}
	r.await("both", func() bool { return r.ended(12) != nil && r.ended(13) != nil })
	stop()
	for _, n := range []int{12, 13} {
		if got := string(r.ended(n).data); got != "half and half" {
			t.Errorf("%s: %q", r.ended(n).begin.Name, got)
		}
	}
}

// TestInboxKeeps: a file that the recorder could not keep stays, and comes again.
func TestInboxKeeps(t *testing.T) {
	dir := memory(t)
	r, _, stop := start(t, config(inbox(dir)))
	tries := 0
	r.mu.Lock()
	r.keep = func(*got) *mediapipe.Kept {
		tries++
		switch tries {
		case 1:
			return &mediapipe.Kept{Why: "no record"}
		case 2:
			return nil // the recorder has died
		}
		return &mediapipe.Kept{OK: true}
	}
	r.mu.Unlock()
	put(t, dir, "a.jpg", jpeg(50))
	r.await("the first try", func() bool { return r.ended(0) != nil && r.event("inbox_waits") != nil })
	if got := list(t, dir); len(got) != 1 {
		t.Errorf("it was removed though it was not kept: %v", got)
	}
	r.await("the third", func() bool { return r.ended(2) != nil })
	eventually(t, "it is removed", func() bool { return len(list(t, dir)) == 0 })
	stop()
}

// TestInboxPolicy: a kind that the policy does not want is left alone.
func TestInboxPolicy(t *testing.T) {
	dir := memory(t)
	put(t, dir, "film.mp4", fragmented(t, false))
	c := config(inbox(dir))
	c.Video = false
	r, _, stop := start(t, c)
	r.await("a refusal", func() bool { return r.event("inbox_refused") != nil })
	put(t, dir, "a.jpg", jpeg(50))
	r.await("a photo", func() bool { return r.ended(0) != nil })
	stop()
	if r.ended(0).begin.Kind != mediapipe.Photo || len(r.order) != 1 {
		t.Errorf("%+v", r.files)
	}
}
