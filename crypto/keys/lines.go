package keys

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	// maxFileBytes bounds recipients.txt and identity files. 32 post-quantum recipients fit.
	maxFileBytes = 64 << 10
	// maxLineBytes is the limit of age -R for one line; two post-quantum recipients fit.
	maxLineBytes = 8 << 10
)

// secretForm matches the beginnings of secrets that must not be in a recipients file, not
// even in a comment.
var secretForm = regexp.MustCompile(`(?i)AGE-SECRET-KEY-(PQ-)?1[0-9a-z]{8}|-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PRIVATE\+KEY\+`)

// readText reads all of r, up to maxFileBytes, and refuses what cannot be a key file.
func readText(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err != nil {
		return "", fmt.Errorf("read keys: %w", err)
	}
	switch {
	case len(b) > maxFileBytes:
		return "", &LineError{Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, maxFileBytes)}
	case bytes.HasPrefix(b, []byte("\xff\xfe")), bytes.HasPrefix(b, []byte("\xfe\xff")):
		// What a Windows shell makes of "age-keygen > file".
		return "", &LineError{Line: 1, Err: fmt.Errorf("%w: UTF-16 text, save it as UTF-8", ErrMalformed)}
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return "", &LineError{Line: 1, Err: fmt.Errorf("%w: byte order mark, save it without", ErrMalformed)}
	}
	return string(b), nil
}

// lines yields each line with its number, without surrounding blanks.
func lines(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.SplitSeq(text, "\n") {
			n++
			if !yield(n, strings.TrimSpace(line)) {
				return
			}
		}
	}
}

// isComment reports a line that carries no key.
func isComment(line string) bool { return line == "" || line[0] == '#' }

// checkLine refuses lines that no parser should see.
func checkLine(line string) error {
	switch {
	case len(line) > maxLineBytes:
		return fmt.Errorf("%w: more than %d bytes on a line", ErrTooLarge, maxLineBytes)
	case strings.ContainsAny(line, "\r\n"):
		return fmt.Errorf("%w: more than one line", ErrMalformed)
	case !utf8.ValidString(line):
		return fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	return nil
}
