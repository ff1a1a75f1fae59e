package vault

import (
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
)

// KeyGroup is what the board has of the identity that some streams of a record have for
// themselves (docs/format/v1.md, section 2).
type KeyGroup struct {
	Streams string // keys.IsGroup: "V", "PV" ...
	Public  string
	Files   []KeyFile
	// Recipients has custody.Fingerprint of each, with the salt of the FlightKey.
	Recipients []string
}

// recipients returns whom the segments of a record are sealed to, and by stream those of groups.
func (k *FlightKey) recipients() (to age.Recipient, groups map[byte]age.Recipient, err error) {
	if to, err = age.ParseHybridRecipient(k.Public); err != nil {
		return nil, nil, fmt.Errorf("flight key: %w", err)
	}
	names := make([]string, len(k.Groups))
	groups = map[byte]age.Recipient{}
	for i, g := range k.Groups {
		names[i] = g.Streams
		of, err := age.ParseHybridRecipient(g.Public)
		if err != nil {
			return nil, nil, fmt.Errorf("flight key of %s: %w", g.Streams, err)
		}
		for _, letter := range []byte(g.Streams) {
			groups[letter] = of
		}
	}
	if err := keys.CheckNames(names...); err != nil {
		return nil, nil, fmt.Errorf("flight key: %w", err)
	}
	return to, groups, nil
}

// wrapped lists the wrapped keys of all identities, in the order in which they are written.
func (k *FlightKey) wrapped() []KeyFile {
	all := k.Files
	for _, g := range k.Groups {
		all = slices.Concat(all, g.Files)
	}
	return all
}

// pubs lists flight.pub and those of the groups.
func (k *FlightKey) pubs() []KeyFile {
	all := []KeyFile{{flightPub, []byte(k.Public + "\n")}}
	for _, g := range k.Groups {
		all = append(all, KeyFile{keys.JoinGroup(g.Streams, flightPub), []byte(g.Public + "\n")})
	}
	return all
}

// leaf puts into leaf K what it says of the identities.
func (k *FlightKey) leaf(e *custody.FlightKey) {
	e.Pub, e.Recipients, e.Files = k.Public, k.Recipients, keyFiles(k.Files)
	for _, g := range k.Groups {
		e.Groups = append(e.Groups, custody.KeyGroup{Streams: g.Streams, Pub: g.Public, Recipients: g.Recipients, Files: keyFiles(g.Files)})
	}
}

func keyFiles(files []KeyFile) (all []custody.KeyFile) {
	for _, f := range files {
		all = append(all, custody.KeyFile{Name: f.Name, Data: f.Data})
	}
	return all
}

// recipient returns whom the segments of a stream are sealed to.
func (r *record) recipient(stream byte) age.Recipient {
	if to := r.groups[stream]; to != nil {
		return to
	}
	return r.to
}

// GroupKeys are the files of a key group, as a reader finds them.
type GroupKeys struct {
	Streams string
	Keys    []string // flight.V.key.age and its parallel files, in order
}

// Group returns what is there of the key group that a stream is in; nil where it is in none.
func (r *Record) Group(stream byte) *GroupKeys {
	for i, g := range r.Groups {
		if strings.IndexByte(g.Streams, stream) >= 0 {
			return &r.Groups[i]
		}
	}
	return nil
}

// takeKey notes a file of the record's identities, and tells whether it is one.
func (r *Record) takeKey(name string) bool {
	group, base := keys.SplitGroup(name)
	switch {
	case !IsFlightKeyFile(base) && base != flightPub:
		return false
	case group == "" && base != flightPub:
		r.Keys = append(r.Keys, name)
	case group != "":
		i, found := slices.BinarySearchFunc(r.Groups, group, func(g GroupKeys, s string) int { return strings.Compare(g.Streams, s) })
		if !found {
			r.Groups = slices.Insert(r.Groups, i, GroupKeys{Streams: group})
		}
		if base != flightPub {
			r.Groups[i].Keys = append(r.Groups[i].Keys, name)
		}
	}
	return true
}

// sortKeys puts the files of each identity in the order of their numbers.
func (r *Record) sortKeys() {
	byNumber := func(a, b string) int { return len(a)*1000 - len(b)*1000 + strings.Compare(a, b) }
	slices.SortFunc(r.Keys, byNumber)
	for _, g := range r.Groups {
		slices.SortFunc(g.Keys, byNumber)
	}
}

// lostGroup tells that something is sealed to a key group whose wrapped key is not there.
func (r *Record) lostGroup() bool {
	return slices.ContainsFunc(r.Segments, func(s Segment) bool {
		g := r.Group(s.Stream)
		return s.File != "" && g != nil && len(g.Keys) == 0
	})
}
