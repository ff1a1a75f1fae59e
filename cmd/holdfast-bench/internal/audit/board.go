package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// board is a recorder without its process: the real vault on real files, under a clock that the
// audit moves.
type board struct {
	device *keys.DeviceKey
	secret ed25519.PrivateKey // of the device
	crew   *crew
	disk   *medium
	dir    string // the vault
	rng    *rand.ChaCha8
	now    time.Duration
	v      *vault.Vault
	media  *vault.Media
	films  int // pieces of video so far
	// attempts that no leaf has counted.
	attempts int64
}

// flushEvery is the pause between two flushes of a board. A flush carries manyBytes for the first
// seconds of a step, so that a closed segment has several chunks, and fewBytes later, so that the
// vault stays small: it is verified more than a thousand times.
const (
	flushEvery          = time.Second
	manyBytes, fewBytes = 15 << 10, 512
	muchFor             = 12 * time.Second
)

// newBoard makes a board with an empty vault. The same seed gives the same device.
func newBoard(dir string, seed uint64) (*board, error) {
	b := &board{dir: dir, rng: randomFrom(seed)}
	secret := make([]byte, ed25519.SeedSize)
	if _, err := b.rng.Read(secret); err != nil {
		return nil, err
	}
	var err error
	if b.device, err = keys.NewDeviceKey(bytes.NewReader(secret)); err != nil {
		return nil, err
	}
	b.secret = ed25519.NewKeyFromSeed(secret)
	if b.crew, err = newCrew(); err != nil {
		return nil, err
	}
	fsys, err := vault.NewOSFS(dir)
	b.disk = &medium{FS: fsys}
	return b, err
}

// start starts the recorder, after the kernel has run for a while.
func (b *board) start(whenFull string) error {
	b.now = 5 * time.Second
	cfg, err := vaultConfig(b.disk, b.device, b.crew, b.rng, func() time.Duration { return b.now })
	if err != nil {
		return err
	}
	cfg.WhenFull, cfg.FlushArmed, cfg.FlushIdle = whenFull, flushEvery, flushEvery
	if b.v, err = vault.Open(cfg); err != nil {
		return err
	}
	b.media = b.v.NewMedia(b.disk, nil)
	return nil
}

// record goes on for a while in a record of the kind given, and begins it where another one or
// none is open. Failures of the medium are met as the recorder meets them: the next flush.
func (b *board) record(kind vault.Kind, last time.Duration) error {
	b.v.SetArmed(kind == vault.Flight)
	if b.v.Record().Kind != kind {
		if err := b.v.Begin(kind, vault.RecordID{}); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
	}
	for begin := b.now; b.now < begin+last; b.now += flushEvery {
		size := manyBytes
		if b.now >= begin+muchFor {
			size = fewBytes
		}
		if err := b.block(size); err != nil {
			return err
		}
		if err := b.refused(); err != nil {
			return err
		}
		for b.v.Step() {
		}
	}
	return nil
}

// block appends and flushes what arrived in a second.
func (b *board) block(size int) error {
	data := make([]byte, size)
	if _, err := b.rng.Read(data); err != nil {
		return err
	}
	if err := b.v.Append(&segment.Block{Meta: segment.Meta{Frames: 1}, Data: data}); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	err := b.v.Flush()
	if err != nil {
		err = b.v.Flush() // into a new segment
	}
	return err
}

// refused is a way out that the network lock has refused: a line of the audit, and now and then
// a leaf that counts them.
func (b *board) refused() error {
	const every, counted = 3 * time.Second, 30 * time.Second
	if b.now%every != 0 {
		return nil
	}
	line := fmt.Appendf(nil, `{"usec":%d,"seen_usec":%d,"layer":"nft-inet","what":"connect","uid":0,"count":1}`+"\n", b.now.Microseconds(), b.now.Microseconds())
	if !b.v.Audit(line) {
		return fmt.Errorf("%w: a line was not taken", errDay)
	}
	if b.attempts++; b.now%counted != 0 {
		return nil
	}
	_, err := b.v.SetLock(custody.Lock{Lock: "locked", Grade: "B", Refused: b.attempts})
	b.attempts = 0
	return err
}

// share gives video a recipient of its own, in the records to come.
func (b *board) share() (err error) {
	b.crew.video, err = newCrew()
	return err
}

// film puts a piece of video into the open record.
func (b *board) film() error {
	data := make([]byte, manyBytes)
	if _, err := b.rng.Read(data); err != nil {
		return err
	}
	b.films++
	return b.media.Append(segment.StreamVideo, &segment.Block{Data: data, Stored: true, Meta: segment.Meta{File: &segment.File{ID: b.films,
		Kind: segment.KindVideo, Source: "front", Format: "ts", Size: int64(len(data)), End: true}}})
}

// maintain opens the lock for a ticket and closes it again.
func (b *board) maintain() error {
	if err := b.v.End(); err != nil {
		return err
	}
	_, err := b.v.SetLock(custody.Lock{Lock: "open", Grade: "none", Refused: b.attempts, Ticket: "0102030405060708090a0b0c0d0e0f10"})
	if err == nil {
		err = b.v.Settle()
	}
	if err == nil {
		b.attempts, b.now = 0, b.now+30*time.Second
		_, err = b.v.SetLock(custody.Lock{Lock: "locked", Grade: "B"})
	}
	return err
}

// stop ends the recorder in good order.
func (b *board) stop() error { return b.v.Close() }

// cut ends it as a loss of power does.
func (b *board) cut() { b.disk.kill() }

// files reads the device's folder.
func (b *board) files() (tree, error) { return readTree(filepath.Join(b.dir, b.device.ID())) }

// errDay means that the vault did not record what the audit needs.
var errDay = errors.New("audit: recording for the attack")

// seconds is what a step of a day lasts.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
