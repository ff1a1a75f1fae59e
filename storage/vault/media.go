package vault

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/seal"
)

var (
	// ErrReserve: the free space that is left is kept for telemetry.
	ErrReserve = errors.New("vault: the space that is left is reserved for telemetry")
	// ErrStream: a stream that is none, or that has a writer of its own.
	ErrStream = errors.New("vault: no such stream")
)

// sealOverhead is more than sealing adds to a segment of n bytes beside n/4096: header, tags.
const sealOverhead = 16 << 10

// mediaStream is a stream of a record beside its telemetry.
type mediaStream struct {
	segments int  // highest number
	refused  bool // the last segment was refused, and leaf X says so
}

// PutMedia seals p as one closed segment of a stream beside telemetry (V, P or A) into the
// open record. Media yields to telemetry: where p would leave less than Reserve and MinFree
// free it is ErrReserve, leaf X says once that the stream was refused, and telemetry goes on.
// It syncs several times; call it where no flush is near. After another error nothing of p is
// kept, and telemetry is as it was.
func (v *Vault) PutMedia(stream byte, p []byte) error {
	if v.rec == nil {
		return ErrClosed
	}
	if strings.IndexByte("VPA", stream) < 0 {
		return ErrStream
	}
	if v.log.log.Pending() { // so that at most one segment is there that the log does not name
		if err := v.log.sync(); err != nil {
			return fmt.Errorf("put media: %w", err)
		}
	}
	m := v.rec.media[stream]
	if m == nil {
		m = &mediaStream{}
		v.rec.media[stream] = m
	}
	free, err := v.cfg.FS.Free()
	if err != nil {
		return fmt.Errorf("put media: free space: %w", err)
	}
	if free-int64(len(p)+len(p)/4096+sealOverhead) < MinFree+v.cfg.Reserve {
		v.refuseMedia(stream, m)
		return ErrReserve
	}
	if err := v.putMedia(stream, m, p); err != nil {
		return fmt.Errorf("put media: %w", err)
	}
	m.refused = false
	return nil
}

// refuseMedia says so in the public log, once until the stream has room again.
func (v *Vault) refuseMedia(stream byte, m *mediaStream) {
	if m.refused {
		return
	}
	m.refused = true
	v.event("media_refused", string(stream))
	name := v.openMedia(stream, m)
	v.log.add(&custody.Lost{Record: v.rec.id.String(), Segment: name, Why: custody.WhyRefused})
	v.log.want()
}

// openMedia uses up the next number of a stream, with leaf O.
func (v *Vault) openMedia(stream byte, m *mediaStream) (name string) {
	m.segments++
	name = segmentName(stream, m.segments)
	v.rec.top[string(stream)] = int64(m.segments)
	v.log.add(&custody.Opened{Record: v.rec.id.String(), Segment: name})
	return name
}

func (v *Vault) putMedia(stream byte, m *mediaStream, p []byte) error {
	dir := v.path(v.rec.id.String())
	file := SegmentFile{stream, m.segments + 1, suffixTmp}
	tmp := dir + "/" + file.String()
	file.Suffix = suffixClosed
	closed := dir + "/" + file.String()
	begin := v.cfg.Now()
	form, err := v.sealFile(tmp, v.rec.recipient(stream), p)
	if err == nil {
		err = v.cfg.FS.Rename(tmp, closed)
	}
	if err != nil {
		_ = v.cfg.FS.Remove(tmp) // what is left of it no reader takes
		return err
	}
	if err := v.cfg.FS.SyncDir(dir); err != nil {
		return errors.Join(err, v.undoMedia(stream, m, closed))
	}
	name := v.openMedia(stream, m)
	v.log.add(&custody.Closed{Record: v.rec.id.String(), Segment: name, Size: form.bytes, SHA256: form.sum[:],
		From: begin.Microseconds(), To: v.cfg.Now().Microseconds()})
	v.log.want()
	if err := v.log.sync(); err != nil { // it is kept, and its leaves wait
		v.log.refused(err)
	}
	return nil
}

// undoMedia takes a number back whose closed form may not be durable.
func (v *Vault) undoMedia(stream byte, m *mediaStream, closed string) error {
	err := v.cfg.FS.Remove(closed)
	m.segments++
	v.log.add(&custody.Lost{Record: v.rec.id.String(), Segment: segmentName(stream, m.segments), Why: custody.WhyUndone})
	v.log.want()
	return err
}

// sealFile makes a file that holds p, sealed and durable, but not yet its entry in the folder.
func (v *Vault) sealFile(name string, to age.Recipient, p []byte) (form durable, err error) {
	f, err := v.cfg.FS.Create(name)
	if err != nil {
		return form, err
	}
	file := newHashedFile(f)
	s, err := seal.New(file, to)
	if err == nil {
		defer s.Abandon()
		_, err = s.Write(p)
	}
	if err == nil {
		err = s.Close()
	}
	if err == nil {
		err = file.Sync()
	}
	file.note(&form)
	return form, errors.Join(err, file.Close())
}
