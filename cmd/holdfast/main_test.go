package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// programs of scripts; each is this test binary, run as its own process.
var programs = map[string]func(){"holdfast": main}

func TestMain(m *testing.M) {
	testscript.Main(m, programs)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"mode":    mode,
			"readenv": readenv,
			"code":    func(ts *testscript.TestScript, neg bool, args []string) { wantCode(ts, neg, args) },
			"flip":    flip,
			"zeros":   zeros,
		},
	})
}

// exits runs a program and wants an exit code, and one line at most on stderr where the
// code tells of a failure: exits CODE holdfast ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	got := wantCode(ts, neg, args)
	stderr := ts.ReadFile("stderr")
	if lines := countLines(stderr); got != 0 && lines != 1 {
		ts.Fatalf("%d lines on stderr, want 1:\n%s", lines, stderr)
	}
}

// wantCode runs a program and wants an exit code: code CODE holdfast ARG...
func wantCode(ts *testscript.TestScript, neg bool, args []string) int {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits|code CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		coded, ok := errors.AsType[interface {
			error
			ExitCode() int
		}](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = coded.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	return got
}

func countLines(s string) (n int) {
	for _, c := range s {
		if c == '\n' {
			n++
		}
	}
	return n
}

// readenv sets a variable to the content of a file, without the line break: readenv NAME FILE
func readenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: readenv NAME FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// flip changes one byte of a file: flip FILE OFFSET. An offset below 0 counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// zeros makes a sparse file of so many bytes: zeros FILE SIZE
func zeros(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: zeros FILE SIZE")
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), nil, 0o600))
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// mode wants the permissions of a file: mode 0600 FILE
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	fi, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	if got := fi.Mode().Perm(); got != fs.FileMode(want) {
		ts.Fatalf("%s has mode %o, want %o", args[1], got, want)
	}
}

func TestWriteNewLeavesNoHalfFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "half.key")
	full := errors.New("no space")
	err := writeNew(path, 0o600, func(w io.Writer) error {
		if _, err := io.WriteString(w, "half of a sec"); err != nil {
			return err
		}
		return full
	})
	if !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	if exists(path) {
		t.Error("half a file stays")
	}
}

func TestWriteNewFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "target")
	if err := os.Symlink(target, link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	err := writeNew(link, 0o600, func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err })
	if !errors.Is(err, fs.ErrExist) || exists(target) || !exists(link) {
		t.Errorf("err %v, target there: %v, link there: %v", err, exists(target), exists(link))
	}
}

func TestNearest(t *testing.T) {
	known := []string{"vault.path", "vault.reserve", "link.name", "rpi4"}
	for word, want := range map[string]string{
		"vault.paht": "vault.path", "vault.path": "vault.path", "link.nmae": "link.name", "lnk.name": "link.name",
		"rpi": "rpi4", "completely": "", "": "", "x": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
