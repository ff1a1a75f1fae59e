package custody

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// UsedNumbers remembers which numbers were used on a board.
type UsedNumbers interface {
	// Use takes a number for good. It returns nil once, and only after the number is durable;
	// ErrReplayed where the number was taken before. After any other error the number counts
	// as taken: the caller must not act. Safe for concurrent use.
	Use(n Number) error
}

// Gate is what a board asks before it does what a statement says. Safe for concurrent use.
type Gate struct {
	device  string
	trusted []note.Verifier
	used    UsedNumbers
}

// NewGate returns the gate of a device (8 hex digits). It trusts the signers given and nobody
// else; without one it admits nothing.
func NewGate(device string, trusted []note.Verifier, used UsedNumbers) *Gate {
	return &Gate{device, slices.Clone(trusted), used}
}

// Admit returns the statement where it may be acted on now, and uses up its number: to the same
// statement it says yes once. boot counts the starts of the recorder as leaves Boot do, now is
// the time since the kernel started. Errors are ErrStatement, ErrUntrusted, ErrOtherAction,
// ErrOtherDevice, ErrExpired and ErrReplayed, or one of the UsedNumbers; a refused statement
// keeps its number.
func (g *Gate) Admit(msg []byte, want Action, boot int64, now time.Duration) (*Statement, error) {
	s, err := ParseStatement(msg, g.trusted)
	if err != nil {
		return nil, err
	}
	switch {
	case s.Order.Action() != want:
		return nil, fmt.Errorf("%w: %s, not %s", ErrOtherAction, s.Order.Action(), want)
	case s.Device != AnyDevice && s.Device != g.device:
		return nil, fmt.Errorf("%w: %s", ErrOtherDevice, s.Device)
	case s.Until.past(boot, now.Microseconds()):
		return nil, ErrExpired
	}
	if err := g.used.Use(s.Number); err != nil {
		return nil, err
	}
	return s, nil
}

// ErrNumbers means that the list of used numbers is damaged, full or cannot be written. Nothing
// is admitted then.
var ErrNumbers = errors.New("list of used numbers cannot be relied on")

const (
	// numberLine is the size of a line: 32 hex digits, a space, 8 hex digits, a line feed.
	numberLine = 42
	// MaxNumbers is how many numbers a NumberLog holds.
	MaxNumbers = 1 << 20
)

// NumberLog keeps used numbers as lines of text in an append-only file of the caller's: the
// number in hex, a space, the CRC-32C of those 33 bytes in hex, a line feed. It is a
// UsedNumbers.
type NumberLog struct {
	mu     sync.Mutex
	used   map[Number]struct{}
	write  func(line []byte) error
	broken bool
}

// LoadNumbers reads content, which is the whole file, and goes on with it. write puts a line at
// the end of the file and returns when it is durable; it is called by one goroutine at a time. good is the number of bytes that hold whole lines: what a cut left behind them, less
// than a line's worth or one line that is wrong, must be cut off before the first Use. Damage of
// any other kind is ErrNumbers: a list that has lost a number would let it be used again.
func LoadNumbers(content []byte, write func(line []byte) error) (l *NumberLog, good int64, err error) {
	l = &NumberLog{used: map[Number]struct{}{}, write: write}
	for rest := content; len(rest) > 0; rest = rest[numberLine:] {
		n, ok := parseNumberLine(rest)
		if !ok && len(rest) <= numberLine {
			return l, good, nil
		}
		if _, twice := l.used[n]; !ok || twice || len(l.used) == MaxNumbers {
			return nil, 0, fmt.Errorf("%w: line %d", ErrNumbers, good/numberLine+1)
		}
		l.used[n] = struct{}{}
		good += numberLine
	}
	return l, good, nil
}

func numberLineOf(n Number) []byte {
	line := fmt.Appendf(nil, "%s ", n)
	return fmt.Appendf(line, "%08x\n", crc32.Checksum(line, castagnoli))
}

// parseNumberLine reads the line that p begins with.
func parseNumberLine(p []byte) (n Number, ok bool) {
	if len(p) < numberLine {
		return n, false
	}
	if _, err := hex.Decode(n[:], p[:2*len(n)]); err != nil {
		return n, false
	}
	return n, string(numberLineOf(n)) == string(p[:numberLine])
}

// Use implements UsedNumbers. After write has failed once, nothing is taken any more: what the
// file holds then is known only to the next LoadNumbers.
func (l *NumberLog) Use(n Number) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.used[n]; ok {
		return ErrReplayed
	}
	if l.broken || len(l.used) >= MaxNumbers {
		return ErrNumbers
	}
	l.used[n] = struct{}{}
	if err := l.write(numberLineOf(n)); err != nil {
		l.broken = true
		return fmt.Errorf("%w: %w", ErrNumbers, err)
	}
	return nil
}
