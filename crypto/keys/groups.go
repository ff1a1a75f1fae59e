package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// GroupStreams are the letters of the streams that a key group may hold, in the order in which
// they stand in its name: the autopilot's log, photos, video. Telemetry and audit are always
// sealed to the flight identity itself.
const GroupStreams = "APV"

// MaxGroups is how many key groups a record can have: each holds a stream at least, and none two.
const MaxGroups = len(GroupStreams)

// ErrGroup means a key group whose name is none, or that shares a stream with another.
var ErrGroup = errors.New("no key group")

// Group is a set of streams of each record that are sealed to recipients of their own.
type Group struct {
	Streams    string // IsGroup
	Recipients *Recipients
}

// IsGroup tells the name of a key group: one or more letters of GroupStreams in that order.
func IsGroup(streams string) bool {
	rest := GroupStreams
	for i := range len(streams) {
		n := strings.IndexByte(rest, streams[i])
		if n < 0 {
			return false
		}
		rest = rest[n+1:]
	}
	return streams != ""
}

// CheckNames tells whether key groups of these names may stand together, in this order: each is
// a name, they ascend, and no stream is in two of them. The error is ErrGroup.
func CheckNames(names ...string) error {
	for i, n := range names {
		switch {
		case !IsGroup(n):
			return fmt.Errorf("%w: its name is not letters of %s in that order", ErrGroup, GroupStreams) // n may be anything
		case i > 0 && names[i-1] >= n:
			return fmt.Errorf("%w: %s and %s are not in order", ErrGroup, names[i-1], n)
		case strings.ContainsAny(strings.Join(names[:i], ""), n):
			return fmt.Errorf("%w: a stream of %s is in another group, too", ErrGroup, n)
		}
	}
	return nil
}

// SortGroups returns groups in the order of their names. Errors: ErrGroup as of CheckNames, and
// ErrNoRecipient for a group without any.
func SortGroups(groups []Group) ([]Group, error) {
	sorted := slices.SortedFunc(slices.Values(groups), func(a, b Group) int { return strings.Compare(a.Streams, b.Streams) })
	names := make([]string, len(sorted))
	for i, g := range sorted {
		names[i] = g.Streams
	}
	if err := CheckNames(names...); err != nil {
		return nil, err
	}
	for _, g := range sorted {
		if g.Recipients == nil || g.Recipients.Count() == 0 {
			return nil, fmt.Errorf("key group %s: %w", g.Streams, ErrNoRecipient)
		}
	}
	return sorted, nil
}

// SplitGroup takes the key group out of the name of one of its files: flight.V.key.2.age is
// flight.key.2.age of group V. Any other name comes back as it is, of group "".
func SplitGroup(name string) (group, base string) {
	rest, ok := strings.CutPrefix(name, "flight.")
	letters, tail, dot := strings.Cut(rest, ".")
	if !ok || !dot || !IsGroup(letters) {
		return "", name
	}
	return letters, "flight." + tail
}

// JoinGroup is the inverse of SplitGroup for the names flight.key.age and on, and flight.pub.
func JoinGroup(group, base string) string {
	if group == "" {
		return base
	}
	return "flight." + group + strings.TrimPrefix(base, "flight")
}

// maxRequest bounds a request, in bytes: a recipients.txt for the flight and for each group.
const maxRequest int64 = int64(1+MaxGroups) * (maxFileBytes + 16)

// MarshalRequest is what the process that makes a flight key is asked: the lines of r, then for
// each group a line with its name in brackets and its lines. It holds no secret.
func MarshalRequest(r *Recipients, groups []Group) []byte {
	var b bytes.Buffer
	put := func(r *Recipients) {
		for _, line := range r.Strings() {
			b.WriteString(line + "\n")
		}
	}
	put(r)
	for _, g := range groups {
		b.WriteString("[" + g.Streams + "]\n")
		put(g.Recipients)
	}
	return b.Bytes()
}

// ParseRequest is the inverse of MarshalRequest. Errors are those of ParseRecipients, ErrGroup,
// ErrTooLarge, or those of in.
func ParseRequest(in io.Reader) (*Recipients, []Group, error) {
	b, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read request: %w", err)
	}
	if int64(len(b)) > maxRequest {
		return nil, nil, fmt.Errorf("%w: a request of more than %d bytes", ErrTooLarge, maxRequest)
	}
	names, texts := splitRequest(string(b))
	if err := CheckNames(names...); err != nil {
		return nil, nil, err
	}
	r, err := ParseRecipients(strings.NewReader(texts[0]))
	if err != nil {
		return nil, nil, err
	}
	var groups []Group
	for i, name := range names {
		of, err := ParseRecipients(strings.NewReader(texts[i+1]))
		if err != nil {
			return nil, nil, fmt.Errorf("key group %s: %w", name, err)
		}
		groups = append(groups, Group{name, of})
	}
	return r, groups, nil
}

// splitRequest cuts a request at its lines in brackets; there is one text more than names.
func splitRequest(text string) (names, texts []string) {
	var part strings.Builder
	for line := range strings.Lines(text) {
		name, open := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "[")
		name, end := strings.CutSuffix(name, "]")
		if !open || !end {
			part.WriteString(line)
			continue
		}
		names, texts = append(names, name), append(texts, part.String())
		part.Reset()
	}
	return names, append(texts, part.String())
}
