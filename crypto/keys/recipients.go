package keys

import (
	"fmt"
	"io"
	"strings"
)

// maxRecipientLines bounds the lines of recipients.txt that carry a recipient. Comments and
// blank lines are bounded by the size of the file.
const maxRecipientLines = 100

// lock is one way to open a flight: one recipient, or two that are both needed.
type lock []*Recipient

// Recipients is the content of a recipients.txt: the ways to open a flight, each of which is
// enough. It does not change and may be used by several goroutines.
type Recipients struct {
	locks []lock
}

// ParseRecipients reads a recipients.txt: one recipient a line, comments with # and blank
// lines as "age -R" takes them, blanks around a line passed over. A line "R1 + R2" is the
// two-person rule: both are needed. A line that repeats an earlier one counts once.
//
// Where the text is at fault the error is a *LineError with ErrNoRecipient, ErrSecretKey,
// ErrUnsupported, ErrMalformed or ErrTooLarge. A secret is reported before anything else,
// and even in a comment: the file goes to a board. Other errors are those of r.
func ParseRecipients(r io.Reader) (*Recipients, error) {
	text, err := readText(r)
	if err != nil {
		return nil, err
	}
	for n, line := range lines(text) {
		if secretForm.MatchString(line) {
			return nil, &LineError{Line: n, Err: ErrSecretKey}
		}
	}
	rs := &Recipients{}
	seen := make(map[string]bool)
	count := 0
	for n, line := range lines(text) {
		if isComment(line) {
			continue
		}
		if count++; count > maxRecipientLines {
			return nil, &LineError{Line: n, Err: fmt.Errorf("%w: more than %d recipients", ErrTooLarge, maxRecipientLines)}
		}
		l, err := parseLock(line)
		if err != nil {
			return nil, &LineError{Line: n, Err: err}
		}
		if s := l.String(); !seen[s] {
			seen[s] = true
			rs.locks = append(rs.locks, l)
		}
	}
	if len(rs.locks) == 0 {
		return nil, &LineError{Err: ErrNoRecipient}
	}
	return rs, nil
}

// parseLock parses "R1" or "R1 + R2". An ssh comment with " + " in it makes a pair whose
// second half is malformed: an error, never a lock weaker than the line reads.
func parseLock(line string) (lock, error) {
	if err := checkLine(line); err != nil {
		return nil, err
	}
	parts := strings.Split(line, " + ")
	if len(parts) > 2 {
		return nil, fmt.Errorf("%w: more than two recipients joined by +", ErrMalformed)
	}
	var l lock
	for _, p := range parts {
		r, err := ParseRecipient(p)
		if err != nil {
			return nil, err
		}
		l = append(l, r)
	}
	if len(l) == 2 && l[0].text == l[1].text {
		return nil, fmt.Errorf("%w: both halves of a pair are the same recipient", ErrMalformed)
	}
	return l, nil
}

func (l lock) String() string {
	if len(l) == 2 {
		return l[0].text + " + " + l[1].text
	}
	return l[0].text
}

// postQuantum holds for a pair when either half is: who wants the flight must break both.
func (l lock) postQuantum() bool {
	for _, r := range l {
		if r.postQuantum {
			return true
		}
	}
	return false
}

// Count returns the number of ways to open a flight. A pair is one.
func (r *Recipients) Count() int { return len(r.locks) }

// Strings returns the lines in canonical form and in the order of the file.
func (r *Recipients) Strings() []string {
	s := make([]string, len(r.locks))
	for i, l := range r.locks {
		s[i] = l.String()
	}
	return s
}

// PostQuantum reports whether every way to open a flight withstands a quantum computer. A
// pair does when one of its halves does.
func (r *Recipients) PostQuantum() bool {
	for _, l := range r.locks {
		if !l.postQuantum() {
			return false
		}
	}
	return true
}

// Mixed reports whether some ways withstand a quantum computer and some do not. The weaker
// ones decide: the flight as a whole does not.
func (r *Recipients) Mixed() bool {
	for _, l := range r.locks {
		if l.postQuantum() {
			return !r.PostQuantum()
		}
	}
	return false
}

// Bypassed reports whether somebody opens a flight alone although another line asks for two
// people. A recovery key kept apart is a fair reason for that; it is said so that nobody is
// surprised.
func (r *Recipients) Bypassed() bool {
	pairs := len(r.pairs())
	return pairs > 0 && pairs < len(r.locks)
}

// group returns the recipients that open a flight alone and are, or are not, post-quantum.
func (r *Recipients) group(postQuantum bool) lock {
	var g lock
	for _, l := range r.locks {
		if len(l) == 1 && l[0].postQuantum == postQuantum {
			g = append(g, l[0])
		}
	}
	return g
}

// pairs returns the two-person lines in the order of the file.
func (r *Recipients) pairs() []lock {
	var p []lock
	for _, l := range r.locks {
		if len(l) == 2 {
			p = append(p, l)
		}
	}
	return p
}
