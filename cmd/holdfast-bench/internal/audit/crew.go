package audit

import (
	"crypto/rand"
	"io"
	mrand "math/rand/v2"
	"strings"
	"time"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// crew is an operator whom a board of the audit seals for.
type crew struct {
	identity age.Identity
	to       *keys.Recipients
	line     string
	video    *crew // whom it seals video for, from some time on; nil: the same
}

func newCrew() (*crew, error) {
	secret, line, err := keys.GenerateIdentity(true)
	if err != nil {
		return nil, err
	}
	ids, err := keys.ParseIdentities(strings.NewReader(secret))
	if err != nil {
		return nil, err
	}
	to, err := keys.ParseRecipients(strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	return &crew{identity: ids[0], to: to, line: line}, nil
}

// newKey makes the identities of a record, as the recorder's child does.
func (c *crew) newKey() (*vault.FlightKey, error) {
	var groups []keys.Group
	if c.video != nil {
		groups = []keys.Group{{Streams: "V", Recipients: c.video.to}}
	}
	k, err := keys.NewFlightKey(c.to, groups...)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, custody.SaltSize)
	if _, err := io.ReadFull(rand.Reader, salt); err != nil {
		return nil, err
	}
	fk := &vault.FlightKey{Public: k.Public, Salt: salt, Recipients: []string{custody.Fingerprint(salt, c.line)}, Files: wrapped(k.Files)}
	for _, g := range k.Groups {
		fk.Groups = append(fk.Groups, vault.KeyGroup{Streams: g.Streams, Public: g.Public, Files: wrapped(g.Files), Recipients: []string{custody.Fingerprint(salt, c.video.line)}})
	}
	return fk, nil
}

func wrapped(files []keys.WrappedFile) (all []vault.KeyFile) {
	for _, f := range files {
		all = append(all, vault.KeyFile{Name: f.Name, Data: f.Data})
	}
	return all
}

// vaultConfig is that of a recorder on the bench.
func vaultConfig(fsys vault.FS, device *keys.DeviceKey, c *crew, random io.Reader, now func() time.Duration) (vault.Config, error) {
	signer, err := device.Signer()
	return vault.Config{
		FS: fsys, DeviceID: device.ID(), DevicePub: device.Verifier() + "\n", DeviceKey: signer, Rand: random, Now: now, NewKey: c.newKey,
		Header:     segment.Header{Boot: "audit", Version: "audit", Lock: "bench", Grade: "none", Links: []segment.Link{{Name: "fc", Device: "audit"}}},
		FlushArmed: 200 * time.Millisecond, FlushIdle: 900 * time.Millisecond, WhenFull: "stop", Record: "always",
	}, err
}

// randomFrom returns the stream of random bytes of a seed.
func randomFrom(seed uint64) *mrand.ChaCha8 {
	var long [32]byte
	for i := range long {
		long[i] = byte(seed >> (8 * (i % 8)))
	}
	return mrand.NewChaCha8(long)
}
