package custody

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	// MaxCheckpoint is the longest checkpoint, in bytes.
	MaxCheckpoint = 64 << 10
	// maxOpen bounds its open lines, and maxNames the names of its other lists.
	maxOpen, maxNames = 64, 255
	// checkpointUnit is what its size is a multiple of, so that a slot that is written in
	// place keeps its size and a sync has no metadata to write.
	checkpointUnit = 512
)

// ErrCheckpoint means bytes that are no checkpoint of this format, or a wrong signature.
var ErrCheckpoint = errors.New("no valid checkpoint")

// OpenFile is a file that is being written: so many bytes of it are durable, and have this hash.
type OpenFile struct {
	Record, Name string // F00000042, T000003.open.age
	Bytes        int64
	SHA256       []byte
}

// Checkpoint is what a slot holds: docs/format/v1.md, section 6.3.
type Checkpoint struct {
	Device   string // 8 hex digits
	Size     int64  // leaves
	Root     tlog.Hash
	Boot     int64
	Epoch    int64
	T        int64             // microseconds since the kernel started
	Key      ed25519.PublicKey // of the epoch
	LogBytes int64             // that the leaves take in log.bin
	Next     int64             // number of the next record
	Live     []string          // records that have not ended, by number
	Deleting []string          // records that are being deleted, by number
	Frontier []tlog.Hash       // Frontier.Hashes
	Open     []OpenFile        // by record and name
}

// Origin is the first line of a checkpoint, and the name of the keys that sign it.
func Origin(device string) string { return "holdfast-" + device }

func b64(p []byte) string { return base64.StdEncoding.EncodeToString(p) }

// recordBefore orders names of records by their numbers. Both kinds share one counter.
func recordBefore(a, b string) bool { return a[1:] < b[1:] }

// text is the signed text without the pad line.
func (c *Checkpoint) text() []byte {
	t := fmt.Appendf(nil, "%s\n%d\n%s\nboot %d %d %d %s\nlog %d\nnext %d\n", Origin(c.Device), c.Size, c.Root, c.Boot, c.Epoch, c.T, b64(c.Key), c.LogBytes, c.Next)
	t = appendList(t, "live", c.Live)
	t = appendList(t, "deleting", c.Deleting)
	t = append(t, "frontier"...)
	for _, h := range c.Frontier {
		t = fmt.Appendf(t, " %s", h)
	}
	t = append(t, '\n')
	for _, o := range c.Open {
		t = fmt.Appendf(t, "open %s/%s %d %s\n", o.Record, o.Name, o.Bytes, b64(o.SHA256))
	}
	return t
}

func appendList(t []byte, word string, names []string) []byte {
	if len(names) == 0 {
		return t
	}
	return fmt.Appendf(t, "%s %s\n", word, strings.Join(names, " "))
}

// Sign returns the checkpoint as a signed note, padded to a multiple of 512 bytes. s must be the
// signer of c.Key. ErrCheckpoint where c breaks a rule of the format.
func (c *Checkpoint) Sign(s note.Signer) ([]byte, error) {
	text := c.text()
	if over := (len(text) + signatureLen(c.Device)) % checkpointUnit; over != 0 {
		const least = len("pad x\n")
		need := checkpointUnit - over
		if need < least {
			need += checkpointUnit
		}
		text = fmt.Appendf(text, "pad %s\n", strings.Repeat("x", need-least+1))
	}
	if _, err := parseText(string(text)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	msg, err := note.Sign(&note.Note{Text: string(text)}, s)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	if len(msg) > MaxCheckpoint || len(msg)%checkpointUnit != 0 {
		return nil, fmt.Errorf("%w: wrong size", ErrCheckpoint)
	}
	return msg, nil
}

// signatureLen is the number of bytes behind the text: an empty line, and a dash, the key's
// name and base64 of the key's hash and an Ed25519 signature.
func signatureLen(device string) int {
	return len(signature(device, b64(make([]byte, 4+ed25519.SignatureSize))))
}

func signature(device, sig string) string { return "\n— " + Origin(device) + " " + sig + "\n" }

// ParseCheckpoint reads a checkpoint and checks its signature under the key that it names
// itself: that finds every change by accident, a torn write among them. Whether that key was in
// force is for the log to say. All else is ErrCheckpoint.
func ParseCheckpoint(msg []byte) (*Checkpoint, error) {
	if len(msg) > MaxCheckpoint || len(msg)%checkpointUnit != 0 {
		return nil, fmt.Errorf("%w: wrong size", ErrCheckpoint)
	}
	var unverified *note.UnverifiedNoteError
	if _, err := note.Open(msg, note.VerifierList()); !errors.As(err, &unverified) {
		return nil, fmt.Errorf("%w: not a signed note", ErrCheckpoint)
	}
	n := unverified.Note
	c, err := parseText(n.Text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	v, err := noteVerifier(c.Device, c.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if n, err = note.Open(msg, note.VerifierList(v)); err != nil {
		return nil, fmt.Errorf("%w: wrong signature", ErrCheckpoint)
	}
	// Open passes over a second signature of a key, and takes base64 that is not canonical.
	sig, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil || len(sig) != 4+ed25519.SignatureSize || string(msg) != n.Text+signature(c.Device, n.Sigs[0].Base64) {
		return nil, fmt.Errorf("%w: not one canonical signature", ErrCheckpoint)
	}
	return c, nil
}

// noteVerifier checks the notes of an epoch key.
func noteVerifier(device string, key ed25519.PublicKey) (note.Verifier, error) {
	line, err := note.NewEd25519VerifierKey(Origin(device), key)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(line)
}

// errText means a text that the encoder would not make.
var errText = errors.New("a line that is not of the format")

func parseText(text string) (*Checkpoint, error) {
	p := lines{rest: strings.Split(strings.TrimSuffix(text, "\n"), "\n")}
	c := &Checkpoint{}
	device, _ := strings.CutPrefix(p.next(), "holdfast-")
	c.Device = device
	c.Size = p.number(p.next())
	c.Root = p.hash(p.next())
	boot := p.words("boot", 4)
	c.Boot, c.Epoch, c.T, c.Key = p.number(boot[0]), p.number(boot[1]), p.number(boot[2]), p.bytes(boot[3])
	c.LogBytes = p.number(p.words("log", 1)[0])
	c.Next = p.number(p.words("next", 1)[0])
	c.Live, c.Deleting = p.names("live"), p.names("deleting")
	c.Frontier = p.frontier()
	c.Open = p.open()
	pad := p.take("pad")
	if p.bad || len(p.rest) > 0 || len(c.Frontier) > 64 || len(c.Open) > maxOpen || len(device) != 8 || strings.Trim(device, "0123456789abcdef") != "" {
		return nil, errText
	}
	again := c.text()
	if len(pad) > 0 {
		if len(pad) != 2 || pad[1] == "" || strings.Trim(pad[1], "x") != "" {
			return nil, errText
		}
		again = fmt.Appendf(again, "pad %s\n", pad[1])
	}
	if !bytes.Equal(again, []byte(text)) {
		return nil, errText
	}
	return c, nil
}

// lines reads the text line by line; bad is set by the first thing that is wrong.
type lines struct {
	rest []string
	bad  bool
}

func (p *lines) next() string {
	if len(p.rest) == 0 {
		p.bad = true
		return ""
	}
	l := p.rest[0]
	p.rest = p.rest[1:]
	return l
}

// take returns the words of the next line where it begins with word; nil otherwise.
func (p *lines) take(word string) []string {
	if len(p.rest) == 0 || p.rest[0] != word && !strings.HasPrefix(p.rest[0], word+" ") {
		return nil
	}
	return strings.Split(p.next(), " ")
}

// words returns n words behind word.
func (p *lines) words(word string, n int) []string {
	w := p.take(word)
	if len(w) != n+1 {
		p.bad = true
		return make([]string, n)
	}
	return w[1:]
}

func (p *lines) number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	p.bad = p.bad || err != nil || n < 0 || n > maxInt
	return n
}

func (p *lines) bytes(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	p.bad = p.bad || err != nil || len(b) != sha256.Size
	return b
}

func (p *lines) hash(s string) (h tlog.Hash) {
	copy(h[:], p.bytes(s))
	return h
}

func (p *lines) names(word string) []string {
	w := p.take(word)
	if len(w) == 0 {
		return nil
	}
	for i, name := range w[1:] {
		p.bad = p.bad || !IsRecord(name) || i > 0 && !recordBefore(w[i], name)
	}
	p.bad = p.bad || len(w) == 1 || len(w) > 1+maxNames
	return w[1:]
}

func (p *lines) frontier() (hs []tlog.Hash) {
	w := p.take("frontier")
	p.bad = p.bad || len(w) == 0
	for i := 1; i < len(w); i++ {
		hs = append(hs, p.hash(w[i]))
	}
	return hs
}

func (p *lines) open() (files []OpenFile) {
	last := ""
	for w := p.take("open"); w != nil && !p.bad; w = p.take("open") {
		if len(w) != 4 {
			p.bad = true
			return nil
		}
		record, name, _ := strings.Cut(w[1], "/")
		_, closed, ok := IsSegmentFile(name)
		p.bad = p.bad || closed || !ok || !IsRecord(record) || len(files) > 0 && last >= w[1]
		last = w[1]
		files = append(files, OpenFile{record, name, p.number(w[2]), p.bytes(w[3])})
	}
	return files
}
