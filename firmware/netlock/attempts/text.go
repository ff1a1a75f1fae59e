package attempts

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"holdfast/firmware/evidence"
)

// maxText is the most bytes of a text in a line, but of one that is shortened to fit MaxLine.
const maxText = 1024

// clean makes a text that others chose fit for a line. Letters and signs that can be printed stay.
// If there is anything else in it (control characters, marks that turn the direction of writing,
// bytes that are no UTF-8) or a backslash, the whole is written as inside a Go string literal, so
// that two texts never look the same.
func clean(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return shorten(literal(s), maxText)
		}
	}
	return shorten(s, maxText)
}

func literal(s string) string {
	plain := !strings.Contains(s, `\`)
	for _, r := range s {
		plain = plain && r != utf8.RuneError && strconv.IsPrint(r)
	}
	if plain {
		return s
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// shorten keeps beginning and end of a text, and a hash that tells it from others that begin and
// end so.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	middle := fmt.Sprintf(" ... (%d bytes, SHA-256 %x) ... ", len(s), sum[:4])
	keep := max(limit-len(middle), 0) / 2
	return strings.ToValidUTF8(s[:keep], "") + middle + strings.ToValidUTF8(s[len(s)-keep:], "")
}

// Line encodes an attempt as one line of at most evidence.MaxLine bytes. Texts are cleaned, and
// shortened as far as it needs.
func Line(a evidence.Attempt) ([]byte, error) {
	for limit := maxText; ; limit /= 2 {
		for _, s := range []*string{&a.Layer, &a.What, &a.Program, &a.Protocol, &a.Destination, &a.Link, &a.Detail} {
			*s = shorten(*s, limit)
		}
		p, err := evidence.Marshal(a)
		if err != nil || len(p) <= evidence.MaxLine || limit < 64 {
			return p, err
		}
	}
}
