package vault

import (
	"cmp"
	"encoding/hex"
	"fmt"

	"filippo.io/age"

	"holdfast/crypto/custody"
)

// record is the record that is being written.
type record struct {
	v         *Vault
	id        RecordID
	to        age.Recipient
	groups    map[byte]age.Recipient // by stream: the recipients of key groups
	continues RecordID
	salt      string
	top       map[string]int64 // by stream, the highest number in the public log
	t, x, a   *stream          // telemetry, audit, the autopilot's files
	media     *place           // what Media needs to know
	left      bool             // by Media
	unsettled bool             // no leaf Z may follow
}

// newRecord gives the folder of the next record its number, all of it durable, names it in the
// public log, and begins its first segment. Once the log names the record it stands, whatever
// the medium refuses then.
func (v *Vault) newRecord(kind Kind, continues RecordID) (*record, error) {
	key := v.spare
	to, groups, err := key.recipients()
	if err != nil {
		return nil, err
	}
	id := RecordID{kind, v.next}
	if err := v.stageAll(); err != nil {
		return nil, fmt.Errorf("begin record %s: %w", id, err)
	}
	if err := v.nameRecord(id); err != nil {
		return nil, fmt.Errorf("begin record %s: %w", id, err)
	}
	v.next++
	v.spare = nil
	r := &record{v: v, id: id, to: to, groups: groups, continues: continues, salt: hex.EncodeToString(key.Salt), top: map[string]int64{}}
	r.t, r.x, r.a = &stream{record: r, letter: 'T'}, &stream{record: r, letter: 'X'}, &stream{record: r, letter: 'A'}
	r.log(key)
	if err := r.t.open(); err != nil { // the next flush tries again
		v.event("segment_failed", err.Error())
	}
	return r, nil
}

// log adds leaf K and makes it durable. Where the log cannot be written it waits in memory: that
// must not keep a flight from being recorded.
func (r *record) log(key *FlightKey) {
	cfg := &r.v.cfg
	k := &custody.FlightKey{Record: r.id.String(), Policy: custody.Policy{
		FlushArmedUsec: cfg.FlushArmed.Microseconds(), FlushIdleUsec: cfg.FlushIdle.Microseconds(),
		Record: cmp.Or(cfg.Record, "always"), WhenFull: cmp.Or(cfg.WhenFull, "stop")}}
	key.leaf(k)
	r.v.log.add(k)
	r.v.log.want()
	const tries = 3 // a cut now would leave a record that nothing signed names
	err := r.v.log.sync()
	for n := 1; n < tries && err != nil; n++ {
		err = r.v.log.sync()
	}
	if err != nil {
		r.v.log.refused(err)
	}
}

// useUp says that a number was begun and taken back, and is not free again.
func (v *Vault) useUp(id RecordID) {
	v.log.add(&custody.Lost{Record: id.String(), Why: custody.WhyUndone})
	v.log.want()
	v.next = id.Number + 1
}
