package vault

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"time"

	"holdfast/crypto/custody"
)

const (
	// signArmed and signIdle are how often the public log is signed where something changed
	// and nothing asks for it sooner.
	signArmed = time.Second
	signIdle  = 10 * time.Second
	// logRetryFirst and logRetryMost bound the back-off after the medium refused the log.
	logRetryFirst = time.Second
	logRetryMost  = 30 * time.Second
	// maxOpenLines is how many open files a checkpoint takes.
	maxOpenLines = 64
)

// publicLog decides when the public log is synced and signed. What is added waits in memory;
// step does one sync at a time. A medium that refuses the log never stops the recording: the
// leaves wait and are tried again.
type publicLog struct {
	v     *Vault
	log   *custody.Log
	store *logStore
	found int64 // leaves at the start

	wanted bool          // sign as soon as all is synced
	signed int64         // leaves that the newest checkpoint of this start counts
	last   time.Duration // when it was made
	seen   int           // Vault.flushes then

	retryAt, wait time.Duration
}

// openLog goes on with the public log: it adds leaf B, in memory.
func (v *Vault) openLog() (st *found, err error) {
	store := &logStore{fs: v.cfg.FS, dir: v.path(logDir)}
	if st, err = store.load(v.cfg.DeviceID); err != nil {
		return nil, err
	}
	log, err := custody.NewLog(custody.Config{Device: v.cfg.DeviceID, DeviceKey: v.cfg.DeviceKey, Now: v.cfg.Now, Rand: v.cfg.Rand, Store: store}, st.State)
	if err != nil {
		return nil, err
	}
	v.log = &publicLog{v: v, log: log, store: store, found: log.Size() - 1}
	return st, nil
}

// add appends a leaf, in memory.
func (p *publicLog) add(e custody.Entry) {
	if err := p.log.Add(e); err != nil {
		p.v.event("log_failed", err.Error())
	}
}

// want has the log synced and signed by the next steps.
func (p *publicLog) want() { p.wanted = true }

// due tells whether the time has come to sign.
func (p *publicLog) due(now time.Duration) bool {
	every := signIdle
	if p.v.armed {
		every = signArmed
	}
	return p.wanted || now-p.last >= every && (p.log.Size() != p.signed || p.v.flushes != p.seen)
}

// step does one sync of the log, or of a checkpoint, where one is due.
func (p *publicLog) step() (done bool) {
	now := p.v.cfg.Now()
	if now < p.retryAt {
		return false
	}
	before := p.log.Size()
	err := p.log.Tick()
	p.wanted = p.wanted || p.log.Size() != before
	switch {
	case err != nil:
	case !p.due(now):
		return false
	case p.log.Pending():
		err = p.sync()
	default:
		err = p.checkpoint()
	}
	if err != nil {
		p.refused(err)
	}
	p.v.slow = max(p.v.slow, p.v.cfg.Now()-now)
	return true
}

// refused puts the log off for a while.
func (p *publicLog) refused(err error) {
	p.wait = min(max(2*p.wait, logRetryFirst), logRetryMost)
	p.retryAt = p.v.cfg.Now() + p.wait
	p.v.event("log_failed", err.Error())
}

func (p *publicLog) sync() error {
	err := p.log.Sync()
	if err == nil {
		p.wait = 0
	}
	return err
}

// checkpoint signs all leaves, which is a sync of one slot where none is pending.
func (p *publicLog) checkpoint() error {
	flushes := p.v.flushes
	if err := p.log.Checkpoint(p.v.openFiles()); err != nil {
		return err
	}
	p.wanted, p.wait = false, 0
	p.signed, p.last, p.seen = p.log.Size(), p.v.cfg.Now(), flushes
	return nil
}

// now syncs and signs at once: for what must not go on before.
func (p *publicLog) now() error {
	err := p.sync()
	if err == nil {
		err = p.checkpoint()
	}
	if err != nil {
		p.wanted = true
		p.refused(err)
	}
	return err
}

func (p *publicLog) close() {
	p.log.Close()
	p.store.close()
}

// openFiles lists the durable parts of the files that no leaf names in their closed form: all of
// them, for by that a start can tell which closed form has its leaf.
func (v *Vault) openFiles() []custody.OpenFile {
	var files []custody.OpenFile
	add := func(id RecordID, stream byte, number int, d *durable) {
		if len(files) < maxOpenLines {
			name := SegmentFile{stream, number, suffixOpen}.String()
			if d.bytes == 0 {
				d.sum = sha256.Sum256(nil)
			}
			files = append(files, custody.OpenFile{Record: id.String(), Name: name, Bytes: d.bytes, SHA256: slices.Clone(d.sum[:])})
		}
	}
	for _, j := range slices.Concat(v.closing, v.strays) {
		if j.state <= closeSyncName {
			add(j.rec.id, j.stream, j.number, &j.durable)
		}
	}
	if v.rec != nil {
		for _, s := range []*stream{v.rec.t, v.rec.x, v.rec.a} {
			if s.cur != nil && s.cur.filled {
				add(v.rec.id, s.letter, s.cur.number, &s.cur.durable)
			}
		}
	}
	v.eachMedia(func(s *mediaSegment, d *durable) { add(s.rec.id, s.letter, s.number, d) })
	slices.SortFunc(files, func(a, b custody.OpenFile) int {
		return cmp.Or(cmp.Compare(a.Record, b.Record), cmp.Compare(a.Name, b.Name))
	})
	return files
}

// durable is how much of a file a sync has covered, and the SHA-256 of that.
type durable struct {
	bytes int64
	sum   [sha256.Size]byte
}

// hashedFile keeps the SHA-256 of what is written to a file, so that nothing has to be read
// again for the log. Not safe for concurrent use.
type hashedFile struct {
	File
	hash  hash.Hash
	bytes int64
}

func newHashedFile(f File) *hashedFile { return &hashedFile{File: f, hash: sha256.New()} }

func (f *hashedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.hash.Write(p[:n])
	f.bytes += int64(n)
	return n, err
}

// note puts into d what was written so far.
func (f *hashedFile) note(d *durable) {
	d.bytes = f.bytes
	f.hash.Sum(d.sum[:0])
}

// lostLeaf is leaf X of a segment whose open form is all there is, as far as d says.
func lostLeaf(id RecordID, stream byte, number int, d *durable) *custody.Lost {
	if d.bytes == 0 {
		d.sum = sha256.Sum256(nil)
	}
	size := d.bytes
	return &custody.Lost{Record: id.String(), Segment: segmentName(stream, number), Size: &size, SHA256: slices.Clone(d.sum[:]), Why: custody.WhyFailed}
}

// segmentName is the name of a segment without a suffix.
func segmentName(stream byte, number int) string { return fmt.Sprintf("%c%06d", stream, number) }
