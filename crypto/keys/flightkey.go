package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

const (
	// MaxWrappedFile bounds one wrapped flight key, in bytes. A group of 32 post-quantum
	// recipients takes 50 KiB.
	MaxWrappedFile = 64 << 10
	// maxFlightKey bounds what Marshal makes. A recipients.txt at its limits takes a sixth, and
	// there are at most 1 + MaxGroups.
	maxFlightKey = 1 << 20
	// minPayload is the nonce of an age payload and the tag of its only chunk.
	minPayload = 16 + 16
)

// ErrFlightKey means bytes that are not what Marshal makes.
var ErrFlightKey = errors.New("malformed flight key")

// WrappedFile is the secret of a flight as one age file. Each file of a FlightKey is enough
// to open the flight.
type WrappedFile struct {
	Name string `json:"name"` // flight.key.age, flight.key.2.age ...; of a group flight.V.key.age ...
	Data []byte `json:"data"` // an age file, at most MaxWrappedFile bytes
}

// FlightKey is what remains of the identity of one flight: its recipient, and its secret
// sealed to the operators; and the same of each key group.
type FlightKey struct {
	Public string        `json:"public"` // age1pq1...
	Files  []WrappedFile `json:"files"`
	Groups []GroupKey    `json:"groups,omitempty"` // by Streams
}

// GroupKey is what remains of the identity that a key group has in one flight.
type GroupKey struct {
	Streams string        `json:"streams"`
	Public  string        `json:"public"`
	Files   []WrappedFile `json:"files"`
}

// NewFlightKey makes a hybrid identity, seals its secret to r and forgets it. Recipients that
// are post-quantum share the first file, classical ones the next, and each pair has its own,
// in the order of r; the first file that is needed is flight.key.age. Each group has an
// identity of its own, sealed likewise; errors about them are those of SortGroups.
//
// The plaintext is the line AGE-SECRET-KEY-PQ-1..., so a file opened by stock age is an
// identity file. The file of a pair "R1 + R2" is an age file to R1 that holds an age file to
// R2: "age -d -i r1.key F | age -d -i r2.key" opens it in the order of the line.
//
// Go cannot wipe the secret for sure. Call NewFlightKey in a process that ends right after.
func NewFlightKey(r *Recipients, groups ...Group) (*FlightKey, error) {
	groups, err := SortGroups(groups)
	if err != nil {
		return nil, err
	}
	k := &FlightKey{}
	if k.Public, k.Files, err = newIdentity("", r); err != nil {
		return nil, err
	}
	for _, g := range groups {
		of := GroupKey{Streams: g.Streams}
		if of.Public, of.Files, err = newIdentity(g.Streams, g.Recipients); err != nil {
			return nil, err
		}
		k.Groups = append(k.Groups, of)
	}
	return k, nil
}

// newIdentity makes one identity and wraps it in files of a group.
func newIdentity(group string, r *Recipients) (public string, files []WrappedFile, err error) {
	if r == nil || r.Count() == 0 {
		return "", nil, ErrNoRecipient
	}
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return "", nil, fmt.Errorf("make flight identity: %w", err)
	}
	secret := []byte(id.String() + "\n")
	defer clear(secret)
	w := &wrapper{group: group}
	for _, l := range []lock{r.group(true), r.group(false)} {
		if len(l) == 0 {
			continue
		}
		if err := w.add(sealTo(secret, l...)); err != nil {
			return "", nil, err
		}
	}
	for _, pair := range r.pairs() {
		if err := w.add(sealNested(secret, pair)); err != nil {
			return "", nil, err
		}
	}
	return id.Recipient().String(), w.files, nil
}

// wrapper collects the wrapped files of one identity.
type wrapper struct {
	group string
	files []WrappedFile
}

// add appends the next file under its name.
func (w *wrapper) add(data []byte, err error) error {
	if err != nil {
		return fmt.Errorf("wrap flight identity: %w", err)
	}
	if len(data) > MaxWrappedFile {
		return fmt.Errorf("wrap flight identity: %w: %d bytes", ErrTooLarge, len(data))
	}
	w.files = append(w.files, WrappedFile{Name: JoinGroup(w.group, WrappedName(len(w.files))), Data: data})
	return nil
}

// WrappedName returns the name of the i-th wrapped file of a flight's own identity, counted
// from 0: flight.key.age, flight.key.2.age, flight.key.3.age and so on.
func WrappedName(i int) string {
	if i == 0 {
		return "flight.key.age"
	}
	return fmt.Sprintf("flight.key.%d.age", i+1)
}

// sealNested seals secret to the last of the pair, and the result to the first.
func sealNested(secret []byte, pair lock) ([]byte, error) {
	data := secret
	for i := len(pair) - 1; i >= 0; i-- {
		var err error
		if data, err = sealTo(data, pair[i]); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func sealTo(plain []byte, to ...*Recipient) ([]byte, error) {
	rs := make([]age.Recipient, len(to))
	for i, r := range to {
		rs[i] = r
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, rs...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Marshal returns k as one JSON object and a newline: what the child that makes the key
// hands to the recorder. It holds no secret. It fails with ErrFlightKey where ParseFlightKey
// would refuse k.
func (k *FlightKey) Marshal() ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFlightKey, err)
	}
	return append(b, '\n'), nil
}

// ParseFlightKey is the inverse of Marshal. It takes exactly the bytes Marshal makes; all
// else is ErrFlightKey. Whether the files open is known on the ground only.
func ParseFlightKey(b []byte) (*FlightKey, error) {
	if len(b) > maxFlightKey {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFlightKey, maxFlightKey)
	}
	k := &FlightKey{}
	if err := json.Unmarshal(b, k); err != nil {
		// The cause would repeat parts of b.
		return nil, fmt.Errorf("%w: not the JSON expected", ErrFlightKey)
	}
	again, err := k.Marshal()
	if err != nil {
		return nil, err
	}
	// One encoding for each value: unknown, repeated or reordered keys end here.
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrFlightKey)
	}
	return k, nil
}

// check holds k to what NewFlightKey makes.
func (k *FlightKey) check() error {
	if err := checkIdentity("", k.Public, k.Files); err != nil {
		return err
	}
	var names []string
	for _, g := range k.Groups {
		names = append(names, g.Streams)
		if err := checkIdentity(g.Streams, g.Public, g.Files); err != nil {
			return err
		}
	}
	if err := CheckNames(names...); err != nil {
		return fmt.Errorf("%w: %w", ErrFlightKey, err)
	}
	return nil
}

// checkIdentity is check for one identity.
func checkIdentity(group, public string, files []WrappedFile) error {
	pub, err := age.ParseHybridRecipient(public)
	if err != nil || pub.String() != public {
		return fmt.Errorf("%w: recipient of the flight", ErrFlightKey)
	}
	// At most one file for each group of singles and one for each line.
	if len(files) == 0 || len(files) > maxRecipientLines+2 {
		return fmt.Errorf("%w: %d files", ErrFlightKey, len(files))
	}
	for i, f := range files {
		if f.Name != JoinGroup(group, WrappedName(i)) {
			return fmt.Errorf("%w: name of file %d", ErrFlightKey, i+1)
		}
		if err := checkWrapped(f.Data); err != nil {
			return fmt.Errorf("%w: file %d: %w", ErrFlightKey, i+1, err)
		}
	}
	return nil
}

var errNotAge = errors.New("not an age file")

// checkWrapped tells whether data has the header of an age file and room for a payload.
func checkWrapped(data []byte) error {
	if len(data) > MaxWrappedFile {
		return ErrTooLarge
	}
	header, err := age.ExtractHeader(bytes.NewReader(data))
	if err != nil {
		return errNotAge
	}
	if !bytes.HasPrefix(data, header) || len(data) < len(header)+minPayload {
		return io.ErrUnexpectedEOF
	}
	return nil
}
