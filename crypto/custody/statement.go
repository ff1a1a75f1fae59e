package custody

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Statements: what an operator tells a board, signed with his key (docs/format/statements.md).

const (
	// MaxStatement is the longest statement, in bytes.
	MaxStatement = 32 << 10
	// maxReceipts, maxInterfaces bound the lists in a statement.
	maxReceipts, maxInterfaces = 256, 16
	// MaxSpanUsec is the longest span of a maintenance ticket: a day, in microseconds.
	MaxSpanUsec = 24 * 60 * 60 * 1_000_000
)

const (
	statementTitle = "holdfast/v1 statement"
	// AnyDevice stands for every device, where an action allows that.
	AnyDevice = "any"
)

// Why a statement is refused.
var (
	// ErrStatement means bytes that are no statement of this format.
	ErrStatement = errors.New("no valid statement")
	// ErrUntrusted means that no trusted signer has signed it, or that the signature is wrong.
	ErrUntrusted = errors.New("not signed by a trusted signer")
	// ErrOtherAction means a statement about something else than what was asked.
	ErrOtherAction = errors.New("statement for another action")
	// ErrOtherDevice means a statement to another device.
	ErrOtherDevice = errors.New("statement for another device")
	// ErrExpired means that its time is over.
	ErrExpired = errors.New("statement has expired")
	// ErrReplayed means that its number was used before.
	ErrReplayed = errors.New("statement was used before")
)

// Action is what a statement is about.
type Action string

// Actions.
const (
	ActionReceipt    Action = "receipt"    // Receipt
	ActionTicket     Action = "ticket"     // Ticket
	ActionStick      Action = "stick"      // Stick
	ActionRecipients Action = "recipients" // RecipientsList
)

// rules says what an action allows: every device at once, and to be without an end or with one.
func (a Action) rules() (anyDevice, never, ends bool) {
	switch a {
	case ActionReceipt:
		return false, true, false
	case ActionTicket:
		return false, false, true
	case ActionStick:
		return true, true, true
	case ActionRecipients:
		return true, true, false
	}
	return false, false, false
}

// Number makes a statement good for one use on a board.
type Number [16]byte

// NewNumber takes a number from rand.
func NewNumber(rand io.Reader) (n Number, err error) {
	if _, err := io.ReadFull(rand, n[:]); err != nil {
		return Number{}, fmt.Errorf("make number: %w", err)
	}
	return n, nil
}

// String returns 32 lower-case hex digits.
func (n Number) String() string { return hex.EncodeToString(n[:]) }

// Until is the last moment at which a statement may be used, in a board's own time. The zero
// value is no end.
type Until struct {
	Boot int64 // as leaves Boot count
	Usec int64 // microseconds since the kernel started
}

func (u Until) text() string {
	if u == (Until{}) {
		return "until -"
	}
	return fmt.Sprintf("until %d %d", u.Boot, u.Usec)
}

// past tells whether a moment lies behind u.
func (u Until) past(boot, usec int64) bool {
	return u != (Until{}) && (boot > u.Boot || boot == u.Boot && usec > u.Usec)
}

// Order is what a statement says: a pointer to Receipt, Ticket, Stick or RecipientsList.
type Order interface {
	Action() Action
	appendText(t []byte) []byte
	check() error
}

// Statement is a signed sentence of an operator to a board.
type Statement struct {
	Device string // 8 hex digits, or AnyDevice
	Number Number
	Until  Until
	Order  Order
	// Signer is the name of the key that signed it. ParseStatement sets it; Sign does not read it.
	Signer string
}

// Receipt says that records were retrieved and checked, so that the board may delete them.
type Receipt struct {
	Records []ReceiptRecord // by number
	Leaves  int64           // size of the head that the log was compared with
	Root    tlog.Hash       // its root
}

// ReceiptRecord names a record by the hash of the leaf that ended it: Ended or Recovered.
type ReceiptRecord struct {
	Record string
	Leaf   tlog.Hash
}

// Ticket lets the named network interfaces up for a while.
type Ticket struct {
	Interfaces []string // in ascending order
	SpanUsec   int64    // microseconds from when the board takes it
}

// Stick lets a storage medium take a copy of what is sealed.
type Stick struct {
	ID Number // written on the stick; says nothing else about it
}

// RecipientsList puts recipients and configuration in force.
type RecipientsList struct {
	Recipients []byte // SHA-256 of recipients.txt
	Config     []byte // SHA-256 of holdfast.toml
}

// Action implements Order.
func (*Receipt) Action() Action        { return ActionReceipt }
func (*Ticket) Action() Action         { return ActionTicket }
func (*Stick) Action() Action          { return ActionStick }
func (*RecipientsList) Action() Action { return ActionRecipients }

func (r *Receipt) appendText(t []byte) []byte {
	for _, x := range r.Records {
		t = fmt.Appendf(t, "record %s %s\n", x.Record, x.Leaf)
	}
	return fmt.Appendf(t, "head %d %s\n", r.Leaves, r.Root)
}

func (k *Ticket) appendText(t []byte) []byte {
	return fmt.Appendf(t, "interfaces %s\nspan %d\n", strings.Join(k.Interfaces, " "), k.SpanUsec)
}

func (s *Stick) appendText(t []byte) []byte { return fmt.Appendf(t, "stick %s\n", s.ID) }

func (l *RecipientsList) appendText(t []byte) []byte {
	return fmt.Appendf(t, "recipients.txt %s\nholdfast.toml %s\n", b64(l.Recipients), b64(l.Config))
}

func (r *Receipt) check() error {
	err := errors.Join(numbers(r.Leaves-1), when(len(r.Records) > 0 && len(r.Records) <= maxReceipts, errEmpty))
	for i, x := range r.Records {
		switch {
		case !IsRecord(x.Record):
			return errName
		case i > 0 && r.Records[i-1].Record[1:] >= x.Record[1:]: // by number, whatever the kind
			return errUnordered
		}
	}
	return err
}

func (k *Ticket) check() error {
	err := errors.Join(when(len(k.Interfaces) > 0 && len(k.Interfaces) <= maxInterfaces, errEmpty),
		when(k.SpanUsec >= 1 && k.SpanUsec <= MaxSpanUsec, errNumber))
	for i, name := range k.Interfaces {
		err = errors.Join(err, when(isInterface(name), errName), when(i == 0 || k.Interfaces[i-1] < name, errUnordered))
	}
	return err
}

func (s *Stick) check() error { return nil }

func (l *RecipientsList) check() error { return hashes(l.Recipients, l.Config) }

// isInterface tells the name of a network interface as Linux takes them, without the letters
// that a shell or a rule could read as something else.
func isInterface(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(s) >= 1 && len(s) <= 15 && strings.Trim(s, letters+"-_.") == "" && strings.Contains(letters, s[:1])
}

// isDevice tells the 8 hex digits of a device.
func isDevice(s string) bool { return len(s) == 8 && strings.Trim(s, "0123456789abcdef") == "" }

// check holds the statement against the rules of its action.
func (s *Statement) check() error {
	if s.Order == nil {
		return errEmpty
	}
	anyDevice, never, ends := s.Order.Action().rules()
	has := s.Until != Until{}
	// Boots are counted by each device for itself: no moment is the same for all of them.
	nobody := s.Device == AnyDevice && has
	return errors.Join(s.Order.check(), when(isDevice(s.Device) || anyDevice && s.Device == AnyDevice, errName),
		when((has && ends || !has && never) && !nobody, errWord), when(!has || s.Until.Boot >= 1, errNumber), numbers(s.Until.Boot, s.Until.Usec))
}

func (s *Statement) text() []byte {
	t := fmt.Appendf(nil, "%s\naction %s\ndevice %s\nnumber %s\n%s\n", statementTitle, s.Order.Action(), s.Device, s.Number, s.Until.text())
	return s.Order.appendText(t)
}

// Sign returns the statement as a signed note. ErrStatement where it breaks a rule of the format.
func (s *Statement) Sign(signer note.Signer) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	msg, err := note.Sign(&note.Note{Text: string(s.text())}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return msg, nil
}

// ParseStatement reads a statement that one of trusted has signed. ErrUntrusted where none of
// them has; ErrStatement for all that Sign would not make.
func ParseStatement(msg []byte, trusted []note.Verifier) (*Statement, error) {
	if len(msg) > MaxStatement {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrStatement, MaxStatement)
	}
	n, err := note.Open(msg, note.VerifierList(trusted...))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &invalid):
		return nil, ErrUntrusted
	case err != nil:
		return nil, fmt.Errorf("%w: not a signed note", ErrStatement)
	}
	if !oneSignature(n, msg) {
		return nil, fmt.Errorf("%w: not one signature in its one form", ErrStatement)
	}
	s, err := parseStatement(n.Text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	s.Signer = n.Sigs[0].Name
	return s, nil
}

// oneSignature tells that msg is n with one signature, as note.Sign writes it.
func oneSignature(n *note.Note, msg []byte) bool {
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return false
	}
	sig := n.Sigs[0]
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	return err == nil && string(msg) == fmt.Sprintf("%s\n\u2014 %s %s\n", n.Text, sig.Name, b64(raw))
}

func parseStatement(text string) (*Statement, error) {
	p := lines{rest: strings.Split(strings.TrimSuffix(text, "\n"), "\n")}
	p.bad = p.next() != statementTitle
	action := Action(p.words("action", 1)[0])
	s := &Statement{Device: p.words("device", 1)[0], Number: p.single(p.words("number", 1)[0]), Until: p.until()}
	s.Order = p.order(action)
	if p.bad || len(p.rest) > 0 {
		return nil, errText
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	// Leading zeros, base64 with stray bits and the like: all differ from what Sign makes.
	if string(s.text()) != text {
		return nil, errText
	}
	return s, nil
}

func (p *lines) single(s string) (n Number) {
	raw, err := hex.DecodeString(s)
	p.bad = p.bad || err != nil || len(raw) != len(n)
	copy(n[:], raw)
	return n
}

func (p *lines) until() Until {
	switch w := p.take("until"); {
	case len(w) == 2 && w[1] == "-":
		return Until{}
	case len(w) == 3:
		return Until{p.number(w[1]), p.number(w[2])}
	}
	p.bad = true
	return Until{}
}

// order reads the lines of an action. It reads one line more of a list than the format allows,
// so that check refuses what is longer.
func (p *lines) order(a Action) Order {
	switch a {
	case ActionReceipt:
		r := &Receipt{}
		for w := p.take("record"); w != nil && len(r.Records) <= maxReceipts && !p.bad; w = p.take("record") {
			if p.bad = len(w) != 3; !p.bad {
				r.Records = append(r.Records, ReceiptRecord{w[1], p.hash(w[2])})
			}
		}
		head := p.words("head", 2)
		r.Leaves, r.Root = p.number(head[0]), p.hash(head[1])
		return r
	case ActionTicket:
		w := p.take("interfaces")
		p.bad = p.bad || len(w) < 2
		return &Ticket{Interfaces: w[min(1, len(w)):], SpanUsec: p.number(p.words("span", 1)[0])}
	case ActionStick:
		return &Stick{p.single(p.words("stick", 1)[0])}
	case ActionRecipients:
		return &RecipientsList{p.bytes(p.words("recipients.txt", 1)[0]), p.bytes(p.words("holdfast.toml", 1)[0])}
	}
	p.bad = true
	return nil
}
