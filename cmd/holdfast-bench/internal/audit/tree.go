package audit

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"
)

// tree is a device's folder in memory: content by name. Contents are never written to, so that
// copies can share them.
type tree map[string][]byte

const (
	logFile    = "LOG/log.bin"
	devicePub  = "LOG/device.pub"
	readmeFile = "README.txt"
)

var slotFiles = [2]string{"LOG/cp.A", "LOG/cp.B"}

func (t tree) copy() tree { return maps.Clone(t) }

// names returns the files that keep says yes to, in order.
func (t tree) names(keep func(name string) bool) []string {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(t)) {
		if keep(n) {
			names = append(names, n)
		}
	}
	return names
}

// below returns the files of a folder.
func (t tree) below(dir string) []string {
	return t.names(func(n string) bool { return strings.HasPrefix(n, dir+"/") })
}

// edit replaces a file by what f makes of a copy of it.
func (t tree) edit(name string, f func([]byte) []byte) { t[name] = f(bytes.Clone(t[name])) }

// removeAll removes a folder.
func (t tree) removeAll(dir string) {
	for _, n := range t.below(dir) {
		delete(t, n)
	}
}

// fs returns the tree as a file system.
func (t tree) fs() fs.FS {
	m := make(fstest.MapFS, len(t))
	for name, data := range t {
		m[name] = &fstest.MapFile{Data: data, Mode: 0o600}
	}
	return m
}

// under returns the files of a device's folder from a listing of the whole vault.
func under(files map[string][]byte, device string) tree {
	t := tree{}
	for name, data := range files {
		if rest, ok := strings.CutPrefix(name, device+"/"); ok {
			t[rest] = data
		}
	}
	return t
}

// readTree reads a device's folder from the disk.
func readTree(dir string) (tree, error) {
	t := tree{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		t[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	return t, err
}
