// Vectors writes the test vectors of format v1 (docs/format/v1.md) to a folder:
//
//	go run ./cmd/internal/vectors -o docs/format/vectors
//
// One scenario a file: a text header that says what a reader must find, an empty line, and a
// gzip-compressed tar of a vault. What is expected is written down with each scenario, by the
// specification; no reader is asked. Log, keys and times are the same in each run; what age
// makes is not, because age takes its keys from the system. It is run by hand: vectors are
// inputs, and no test rewrites them.
//
// It does not use storage/vault: a scenario has to leave out, repeat and forge steps that a
// vault would never take, under signatures that are right.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

func main() {
	out := flag.String("o", "", "folder to write to")
	only := flag.String("only", ".", "regular `expression` of the names to write")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(*out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "vectors:", err)
		os.Exit(1)
	}
}

func write(dir, only string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, s := range scenarios() {
		if !match.MatchString(s.name) {
			continue
		}
		data, err := s.vector().Format()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, s.name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
