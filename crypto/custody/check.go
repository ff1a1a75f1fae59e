package custody

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"strings"

	"holdfast/crypto/keys"
)

// The checks here are of one leaf by itself; how leaves follow each other is Verify's.

const (
	maxInt     = 1<<53 - 1 // what every JSON reader holds exactly
	maxSegment = 999_999   // a segment's name has six digits
)

var (
	errNumber    = errors.New("a number out of range")
	errName      = errors.New("a name that is none")
	errKey       = errors.New("a key, signature or hash of a wrong length")
	errWord      = errors.New("a word that is not of the format")
	errEmpty     = errors.New("a list that must not be empty, or is null")
	errUnordered = errors.New("a list that is not in order")
	errGroup     = errors.New("key groups that are none, not in order, or share a stream")
)

// Fields of several bodies, each with the error that a wrong one gives.
func numbers(ns ...int64) error {
	for _, n := range ns {
		if n < 0 || n > maxInt {
			return errNumber
		}
	}
	return nil
}

// counts are numbers from 1.
func counts(ns ...int64) error {
	for _, n := range ns {
		if n < 1 {
			return errNumber
		}
	}
	return numbers(ns...)
}

func hashes(hs ...[]byte) error {
	for _, h := range hs {
		if len(h) != sha256.Size {
			return errKey
		}
	}
	return nil
}

func oneOf(s string, words ...string) error {
	for _, w := range words {
		if s == w {
			return nil
		}
	}
	return errWord
}

func when(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}

// IsRecord tells F00000042 and G00000043.
func IsRecord(s string) bool {
	return len(s) == 9 && (s[0] == 'F' || s[0] == 'G') && isNumber(s[1:])
}

// IsSegment tells T000001 and the like.
func IsSegment(s string) bool {
	return len(s) == 7 && strings.IndexByte("TVPAX", s[0]) >= 0 && isNumber(s[1:])
}

// isNumber tells decimal digits that are not all 0.
func isNumber(s string) bool {
	return strings.Trim(s, "0123456789") == "" && strings.Trim(s, "0") != ""
}

// IsSegmentFile tells a file of a segment, closed or open, and returns the segment's name.
func IsSegmentFile(name string) (segment string, closed, ok bool) {
	if len(name) < 7 || !IsSegment(name[:7]) {
		return "", false, false
	}
	switch name[7:] {
	case ".age":
		return name[:7], true, true
	case ".open.age":
		return name[:7], false, true
	}
	return "", false, false
}

// IsKeyFile tells flight.key.age, flight.key.2.age and on to 99. Files of key groups are told by
// keys.SplitGroup before.
func IsKeyFile(name string) bool {
	if name == "flight.key.age" {
		return true
	}
	n, ok := strings.CutPrefix(name, "flight.key.")
	n, end := strings.CutSuffix(n, ".age")
	return ok && end && len(n) <= 2 && isNumber(n) && n[0] != '0' && n != "1"
}

func (e *Boot) check() error {
	return errors.Join(counts(e.Boot), numbers(e.Signed, e.T, e.Torn), when(e.V == Version, errNumber),
		oneOf(e.Slots, SlotsGood, SlotsTorn, SlotsBad, SlotsNone),
		when(len(e.Key) == ed25519.PublicKeySize && len(e.Sig) == ed25519.SignatureSize, errKey))
}

func (e *Epoch) check() error {
	return errors.Join(counts(e.Boot, e.Epoch), numbers(e.T),
		when(len(e.Key) == ed25519.PublicKeySize && len(e.Sig) == ed25519.SignatureSize, errKey))
}

func (e *Lock) check() error {
	return errors.Join(numbers(e.T, e.Refused), oneOf(e.Grade, "A", "B", "none"), oneOf(e.Lock, "locked", "bench", "open"),
		when(e.Ticket == "" || e.Lock == "open" && isNumber128(e.Ticket), errWord))
}

// isNumber128 tells 32 lower-case hex digits.
func isNumber128(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" }

func (e *Recovered) check() error {
	err := errors.Join(numbers(e.T), when(IsRecord(e.Record), errName), when(e.Files != nil, errEmpty))
	for i, f := range e.Files {
		err = errors.Join(err, f.check(), when(i == 0 || e.Files[i-1].Name < f.Name, errUnordered))
	}
	return err
}

func (f *File) check() error {
	_, closed, ok := IsSegmentFile(f.Name)
	err := errors.Join(when(ok, errName), numbers(f.Size), hashes(f.SHA256))
	switch {
	case (f.SignedSize != nil) != (f.SignedSHA256 != nil), closed && f.SignedSize != nil: // only open forms have lines
		return errors.Join(err, errWord)
	case f.SignedSize == nil:
		return err
	}
	return errors.Join(err, numbers(*f.SignedSize), hashes(f.SignedSHA256))
}

func (e *FlightKey) check() error {
	err := errors.Join(numbers(e.T, e.Policy.FlushArmedUsec, e.Policy.FlushIdleUsec), when(IsRecord(e.Record), errName),
		oneOf(e.Policy.Record, "always", "armed"), oneOf(e.Policy.WhenFull, "stop", "oldest"),
		checkKeys("", e.Files, e.Pub, e.Recipients))
	names := make([]string, len(e.Groups))
	for i, g := range e.Groups {
		names[i] = g.Streams
		err = errors.Join(err, checkKeys(g.Streams, g.Files, g.Pub, g.Recipients))
	}
	return errors.Join(err, when(keys.CheckNames(names...) == nil, errGroup))
}

// checkKeys checks what leaf K says of one identity of a record.
func checkKeys(group string, files []KeyFile, pub string, recipients []string) error {
	err := errors.Join(when(len(files) > 0 && len(recipients) > 0, errEmpty), when(strings.HasPrefix(pub, "age1"), errWord))
	for i, f := range files {
		of, base := keys.SplitGroup(f.Name)
		err = errors.Join(err, when(of == group && IsKeyFile(base), errName), when(len(f.Data) > 0, errEmpty),
			when(i == 0 || keyBefore(files[i-1].Name, f.Name), errUnordered))
	}
	for _, r := range recipients {
		err = errors.Join(err, when(isNumber128(r), errKey))
	}
	return err
}

// isKeyName tells the files of a record's identities that leaf K names: wrapped keys, and the
// recipients of groups. flight.pub is there in any case.
func isKeyName(name string) bool {
	group, base := keys.SplitGroup(name)
	return IsKeyFile(base) || group != "" && base == flightPub
}

// keyBefore sorts flight.key.age before flight.key.2.age before flight.key.10.age.
func keyBefore(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

func (e *Opened) check() error {
	return errors.Join(numbers(e.T), when(IsRecord(e.Record) && IsSegment(e.Segment), errName))
}

func (e *Closed) check() error {
	return errors.Join(numbers(e.T, e.Frames, e.From, e.To, e.Size), hashes(e.SHA256),
		when(IsRecord(e.Record) && IsSegment(e.Segment), errName))
}

func (e *Lost) check() error {
	err := errors.Join(numbers(e.T), when(IsRecord(e.Record), errName), oneOf(e.Why, WhyDeleted, WhyUndone, WhyFailed, WhyRefused),
		when(e.Segment == "" || IsSegment(e.Segment), errName))
	part := e.Why == WhyFailed
	if part != (e.Size != nil) || part != (e.SHA256 != nil) {
		return errors.Join(err, errWord)
	}
	if part {
		err = errors.Join(err, numbers(*e.Size), hashes(e.SHA256))
	}
	of := e.Segment != ""
	return errors.Join(err, when(e.Why == WhyUndone || of == (e.Why != WhyDeleted), errWord))
}

func (e *Ended) check() error {
	err := errors.Join(numbers(e.T), when(IsRecord(e.Record), errName), when(e.Segments != nil, errEmpty))
	for stream, n := range e.Segments {
		err = errors.Join(err, counts(n), when(n <= maxSegment, errNumber), when(len(stream) == 1 && strings.Contains("TVPAX", stream), errWord))
	}
	return err
}
