// Package cli is what the three programs share at their edge: exit codes, the one-line
// error form, signals, JSON output and sizes for people. It exists because all three
// answer scripts by the same exit codes.
//
// It knows nothing of MAVLink, vaults or keys, and decides no verdict: a command that
// wants a code other than Error says so with ExitError.
package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// Exit codes of all three programs. Where several fit, the worst state wins.
const (
	OK          = 0   // done
	Error       = 1   // error, bad configuration, recipients or identity file, not a vault, failed audit
	Usage       = 2   // wrong usage of flags or arguments
	Cut         = 3   // a record is cut or damaged
	Tampered    = 4   // a record is tampered, missing or unsigned
	NoIdentity  = 5   // no identity fits
	Nothing     = 6   // nothing there
	Interrupted = 130 // SIGINT or SIGTERM
)

// ExitError gives an error its exit code. Err may be nil: then the program ends with
// Code and prints nothing, for verdicts that stand on stdout already.
type ExitError struct {
	Code int
	Err  error
}

// Error returns the text of Err, or the code where there is none.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// Exit returns an ExitError with a formatted text; format takes %w as fmt.Errorf does.
func Exit(code int, format string, args ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, args...)}
}

// PrintJSON writes v as one JSON object on one line. Angle brackets and ampersands stay
// as they are, so that file names read as they were given.
func PrintJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// IsTerminal tells whether f is a terminal: progress is shown there and nowhere else.
func IsTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// Size writes a number of bytes for people, in powers of 1024: "512 B", "1.5 MiB".
func Size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n)/1024, 0
	// 1023.95 would be rounded to 1024.0 of the smaller unit.
	for f >= 1023.95 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// oneLine folds every control character to a space, so that one error is one line and a
// file name cannot move the cursor of the terminal.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
