package flight

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/open"
	"holdfast/storage/vault"
)

// maxKeyFile bounds a wrapped flight key; real ones have some kilobytes.
const maxKeyFile = 64 << 10

// ErrNoKey: the record holds no wrapped flight key, so nobody can open it.
var ErrNoKey = errors.New("the record holds no flight key")

// Keys are the identities that the streams of one record are sealed to, as far as the operator's
// identities open them.
type Keys struct {
	groups []unlocked
	rest   unlocked // of the streams that are in no group
}

// unlocked is one identity of a record; id is nil where err says why it could not be had.
type unlocked struct {
	streams string
	id      age.Identity
	err     error
}

// For returns the identity that opens the segments of a stream; nil where it is sealed to others,
// or its wrapped key cannot be read.
func (k Keys) For(stream byte) age.Identity { return k.of(stream).id }

func (k *Keys) of(stream byte) *unlocked {
	for i := range k.groups {
		if strings.IndexByte(k.groups[i].streams, stream) >= 0 {
			return &k.groups[i]
		}
	}
	return &k.rest
}

// Sealed is what of a record is sealed to others than the identities given.
type Sealed struct {
	Streams  string `json:"streams"` // letters
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"` // of sealed files
}

// SealedToOthers lists what is in rec that no identity given opens, one row for each identity of
// the record that has a segment.
func (k Keys) SealedToOthers(rec vault.Record) (rows []Sealed) {
	return k.count(rec, func(u *unlocked) bool { return errors.Is(u.err, open.ErrNoIdentity) })
}

// count lists what is sealed to the identities that fit, in the order of the record's segments.
func (k *Keys) count(rec vault.Record, fit func(*unlocked) bool) (rows []Sealed) {
	var of []*unlocked
	for _, s := range rec.Segments {
		u := k.of(s.Stream)
		if s.File == "" || u.id != nil || !fit(u) {
			continue
		}
		i := slices.Index(of, u)
		if i < 0 {
			i = len(of)
			of, rows = append(of, u), append(rows, Sealed{})
		}
		r := &rows[i]
		r.Segments++
		r.Bytes += s.Size
		if strings.IndexByte(r.Streams, s.Stream) < 0 {
			r.Streams += string(s.Stream)
		}
	}
	return rows
}

// Unlock returns the identities that the segments of rec are sealed to. An error means that
// nothing of it opens: ErrNoKey, open.ErrDamaged, or open.ErrNoIdentity.
func (o *Opener) Unlock(rec vault.Record) (Keys, error) { return o.unlock(rec, nil) }

// unlock believes leaf K, where it is given, in which key groups there are, and opens its copies:
// they are signed, and a file that is another could open to anything. Without it the files count;
// where two groups name a stream, the first by name.
func (o *Opener) unlock(rec vault.Record, leaf *custody.FlightKey) (Keys, error) {
	k := Keys{}
	if leaf == nil {
		for _, g := range rec.Groups {
			k.groups = append(k.groups, o.byFiles(rec, g.Streams, g.Keys))
		}
		k.rest = o.byFiles(rec, "", rec.Keys)
		return k, k.failure()
	}
	for _, g := range leaf.Groups {
		k.groups = append(k.groups, o.byLog(g.Streams, g.Files))
	}
	k.rest = o.byLog("", leaf.Files)
	return k, k.failure()
}

// byLog opens one identity of a record by leaf K's copies.
func (o *Opener) byLog(streams string, files []custody.KeyFile) unlocked {
	var copies [][]byte
	for _, f := range files {
		copies = append(copies, f.Data)
	}
	id, err := o.Keys.Flight(copies...)
	return unlocked{streams, id, err}
}

// byFiles opens one by the files in the record's folder, each of which is enough.
func (o *Opener) byFiles(rec vault.Record, streams string, names []string) unlocked {
	if len(names) == 0 {
		return unlocked{streams: streams, err: ErrNoKey}
	}
	var copies [][]byte
	for _, name := range names {
		if data, err := o.readKey(path.Join(rec.Dir, name)); err == nil {
			copies = append(copies, data)
		}
	}
	id, err := o.Keys.Flight(copies...)
	return unlocked{streams, id, err}
}

func (o *Opener) readKey(name string) ([]byte, error) {
	f, err := o.FS.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = errors.New("too large for a flight key")
	}
	return data, err
}

// failure is nil where something opened. Else it is what says most about the record: a key that
// is damaged could have been the one.
func (k *Keys) failure() error {
	worst := k.rest.err
	if k.rest.id != nil {
		return nil
	}
	for _, u := range k.groups {
		if u.id != nil {
			return nil
		}
		if errors.Is(worst, open.ErrNoIdentity) && errors.Is(u.err, open.ErrDamaged) {
			worst = u.err
		}
	}
	return worst
}

// locked says in a summary what stayed sealed, and why.
func (k *Keys) locked(s *Summary, rec vault.Record) {
	s.SealedToOthers = k.SealedToOthers(rec)
	for _, r := range s.SealedToOthers {
		s.Missing = append(s.Missing, Missing{What: r.what(), Why: "sealed to others: no identity given fits"})
	}
	for _, r := range k.count(rec, func(u *unlocked) bool { return !errors.Is(u.err, open.ErrNoIdentity) }) {
		s.State = s.State.Worse(vault.StateDamaged)
		s.Missing = append(s.Missing, Missing{What: r.what(), Why: cmp.Or(k.of(r.Streams[0]).err, ErrNoKey).Error()})
	}
}

func (r Sealed) what() string { return fmt.Sprintf("%d segments of %s", r.Segments, r.Streams) }
