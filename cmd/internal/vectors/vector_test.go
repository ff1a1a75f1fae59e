package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestBuild: every scenario can be built, what it says of itself holds, and it comes back from
// its file as it was.
func TestBuild(t *testing.T) {
	names := map[string]bool{}
	for _, s := range scenarios() {
		if names[s.name] {
			t.Errorf("two scenarios are named %s", s.name)
		}
		names[s.name] = true
		v := s.vector()
		data, err := v.Format()
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		back, err := ParseVector(data)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		again, err := back.Format()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: written again it differs: %v", s.name, err)
		}
	}
	files, err := os.ReadDir(vectorsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !names[f.Name()] && f.Name() != "README.md" {
			t.Errorf("%s has no scenario", f.Name())
		}
		delete(names, f.Name())
	}
	for name := range names {
		t.Errorf("%s has no file", name)
	}
}

// headersThatFail are vectors that a parser must refuse.
func headersThatFail(t testing.TB) map[string][]byte {
	good, err := (&Vector{Comment: []string{"c"}, Expect: "accept", State: "clean", Head: []byte{1}, Tree: map[string][]byte{"a/": nil, "a/b": []byte("x")}}).Format()
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := bytes.Cut(good, []byte("\n\n"))
	with := func(old, new string) []byte {
		return slices.Concat([]byte(strings.Replace(string(head), old, new, 1)), []byte("\n\n"), body)
	}
	return map[string][]byte{
		"empty": nil, "no header": body, "no body": append(head, "\n\n"...), "cut": good[:len(good)-5],
		"unknown key": with("state", "stat"), "twice": with("state: clean", "state: clean\nstate: clean"),
		"no colon": with("state: clean", "state clean"), "exit no number": with("exit: 0", "exit: x"),
		"exit of the other": with("exit: 0", "exit: 4"), "no state": with("state: clean\n", ""),
		"rejected by nothing": with("accept\nstate: clean\nexit: 0", "reject\nstate: clean\nexit: 4"),
		"head no hex":         with("head: 01", "head: 0"),
		"path upwards":        packed(t, "../b"), "path absolute": packed(t, "/b"), "path of another system": packed(t, `a\b`),
	}
}

func packed(t testing.TB, name string) []byte {
	p, err := (&Vector{Comment: []string{"c"}, Expect: "accept", State: "clean", Tree: map[string][]byte{name: nil}}).Format()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseRefuses(t *testing.T) {
	for name, data := range headersThatFail(t) {
		if _, err := ParseVector(data); !errors.Is(err, ErrVector) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzVector: no input makes the parser panic, and what it takes comes back the same.
func FuzzVector(f *testing.F) {
	for _, data := range headersThatFail(f) {
		f.Add(data)
	}
	for _, s := range scenarios()[:2] {
		data, err := s.vector().Format()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseVector(data)
		if err != nil {
			if !errors.Is(err, ErrVector) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		out, err := v.Format()
		if err != nil {
			return // names that a tar of this kind cannot hold
		}
		back, err := ParseVector(out)
		if err != nil {
			t.Fatalf("its own output: %v", err)
		}
		if back.State != v.State || hex.EncodeToString(back.Head) != hex.EncodeToString(v.Head) || len(back.Tree) != len(v.Tree) {
			t.Fatal("comes back different")
		}
	})
}
