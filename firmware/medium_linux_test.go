package firmware

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMediumWatch: a vault is left only where it is in a fault for a while and something else is in
// its place.
func TestMediumWatch(t *testing.T) {
	dir := t.TempDir()
	path, aside := filepath.Join(dir, "vault"), filepath.Join(dir, "aside")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := newMediumWatch(path)
	if err != nil {
		t.Fatal(err)
	}
	many := func(faulty bool) (anew bool) {
		for range 2 * mediumTurns {
			anew = anew || w.look(faulty)
		}
		return anew
	}
	if many(true) {
		t.Error("left for a fault alone")
	}
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if many(true) {
		t.Error("left while nothing is in its place")
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if many(false) || w.look(true) || w.look(false) || w.look(true) {
		t.Error("left although it records now and then")
	}
	if !many(true) {
		t.Error("not left for what is in its place")
	}
}
