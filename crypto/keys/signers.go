package keys

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const (
	// MaxSigners is the most keys that a list of signers may hold.
	MaxSigners = 64
	// maxSignersText bounds the file, in bytes.
	maxSignersText = 64 << 10
)

// ErrSigners means a file that is no list of signers.
var ErrSigners = errors.New("list of signers")

// ParseSigners reads signers.txt: the verifier line of an operator's signing key (`holdfast keygen
// --signer`) on each line; blank lines and lines that begin with # are passed over. An empty
// list is no error: then nobody is trusted. ErrSigners names the line that is at fault.
func ParseSigners(r io.Reader) ([]note.Verifier, error) {
	var list []note.Verifier
	known := map[string]bool{}
	scan := bufio.NewScanner(io.LimitReader(r, maxSignersText+1))
	scan.Buffer(nil, maxSignersText)
	read := 0
	for n := 1; scan.Scan(); n++ {
		if read += len(scan.Bytes()) + 1; read > maxSignersText {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrSigners, maxSignersText)
		}
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' || known[line] {
			continue
		}
		if _, err := noteKeyID(operatorNamePrefix, line); err != nil {
			return nil, fmt.Errorf("%w: line %d is no verifier line of an operator's signing key (holdfast-operator-...)", ErrSigners, n)
		}
		v, err := note.NewVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrSigners, n, err)
		}
		known[line] = true
		if list = append(list, v); len(list) > MaxSigners {
			return nil, fmt.Errorf("%w: more than %d keys", ErrSigners, MaxSigners)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigners, err)
	}
	return list, nil
}
