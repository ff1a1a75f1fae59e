package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast/crypto/custody"
)

// errLog means a log that the audit itself cannot read: then there is nothing to attack.
var errLog = errors.New("audit: log.bin is not a row of leaves")

const (
	leafHead  = 5
	leafFrame = 9 // bytes of a leaf beside its body
	epochUsec = 60_000_000
)

// parseLeaves cuts log.bin into leaves. It knows the framing alone.
func parseLeaves(data []byte) ([]custody.Leaf, error) {
	var leaves []custody.Leaf
	for len(data) > 0 {
		if len(data) < leafFrame {
			return nil, errLog
		}
		n := int(binary.BigEndian.Uint32(data))
		if n > len(data)-leafFrame {
			return nil, errLog
		}
		leaves = append(leaves, custody.Leaf{Kind: custody.Kind(data[4]), Body: data[leafHead : leafHead+n : leafHead+n]})
		data = data[leafFrame+n:]
	}
	return leaves, nil
}

// encode is the inverse of parseLeaves, with right CRCs.
func encode(leaves []custody.Leaf) []byte {
	var data []byte
	for _, l := range leaves {
		data = l.Append(data)
	}
	return data
}

// offset returns where leaf i begins.
func offset(leaves []custody.Leaf, i int) (n int64) {
	for _, l := range leaves[:i] {
		n += l.Size()
	}
	return n
}

// frontier returns the tree over the leaves.
func frontier(leaves []custody.Leaf) *custody.Frontier {
	f := &custody.Frontier{}
	for _, l := range leaves {
		f.Add(l.Hash())
	}
	return f
}

// epochKey is a key that signs from a leaf on.
type epochKey struct {
	from        int // leaf
	boot, epoch int64
	begin       int64 // microseconds, t_B and whole epochs
	key         ed25519.PrivateKey
}

// forger holds the device key and writes history with it as he likes: each boot and each epoch
// gets a key that he has made and kept.
type forger struct {
	device string
	key    ed25519.PrivateKey
	rand   io.Reader
}

// resign returns the leaves with their certificates made anew, and the keys.
func (f *forger) resign(leaves []custody.Leaf) (out []custody.Leaf, keys []epochKey, err error) {
	tree, boot := &custody.Frontier{}, int64(0)
	for i, l := range leaves {
		if l.Kind == custody.KindBoot || l.Kind == custody.KindEpoch {
			k := epochKey{from: i}
			if _, k.key, err = ed25519.GenerateKey(f.rand); err != nil {
				return nil, nil, err
			}
			e, err := l.Entry()
			if err != nil {
				return nil, nil, err
			}
			if b, ok := e.(*custody.Boot); ok {
				boot = b.T
				k.boot, k.begin = b.Boot, b.T
				f.certifyBoot(b, k, i, tree.Root())
			} else if e, ok := e.(*custody.Epoch); ok && len(keys) > 0 {
				k.boot, k.epoch, k.begin = e.Boot, e.Epoch, boot+e.Epoch*epochUsec
				f.certifyEpoch(e, k, keys[len(keys)-1].key, i, tree.Root())
			}
			if l, err = custody.NewLeaf(e); err != nil {
				return nil, nil, err
			}
			keys = append(keys, k)
		}
		tree.Add(l.Hash())
		out = append(out, l)
	}
	return out, keys, nil
}

func (f *forger) certifyBoot(b *custody.Boot, k epochKey, index int, root tlog.Hash) {
	b.Key = k.key.Public().(ed25519.PublicKey)
	b.Sig = ed25519.Sign(f.key, custody.BootMessage(f.device, b, int64(index), root))
}

func (f *forger) certifyEpoch(e *custody.Epoch, k epochKey, by ed25519.PrivateKey, index int, root tlog.Hash) {
	e.Key = k.key.Public().(ed25519.PublicKey)
	e.Sig = ed25519.Sign(by, custody.EpochMessage(f.device, e, int64(index), root))
}

// inForce returns the key in force after n leaves.
func inForce(keys []epochKey, n int) epochKey {
	k := keys[0]
	for _, next := range keys[1:] {
		if next.from < n {
			k = next
		}
	}
	return k
}

// checkpointOf returns the unsigned checkpoint of the first n leaves under key k.
func checkpointOf(device string, leaves []custody.Leaf, n int, k epochKey) (*custody.Checkpoint, error) {
	tree := frontier(leaves[:n])
	c := &custody.Checkpoint{Device: device, Size: int64(n), Root: tree.Root(), Boot: k.boot, Epoch: k.epoch, T: k.begin,
		Key: k.key.Public().(ed25519.PublicKey), LogBytes: offset(leaves, n), Next: 1, Frontier: tree.Hashes()}
	for _, l := range leaves[:n] {
		e, err := l.Entry()
		if err != nil {
			return nil, err
		}
		c.T = max(c.T, e.Time())
		countRecord(c, e)
	}
	return c, nil
}

// countRecord keeps next and live.
func countRecord(c *custody.Checkpoint, e custody.Entry) {
	end := func(record string) {
		var live []string
		for _, r := range c.Live {
			if r != record {
				live = append(live, r)
			}
		}
		c.Live = live
	}
	switch e := e.(type) {
	case *custody.Boot:
		c.T = e.T // each boot has its own time
	case *custody.FlightKey:
		c.Next++
		c.Live = append(c.Live, e.Record)
	case *custody.Ended:
		end(e.Record)
	case *custody.Recovered:
		end(e.Record)
	case *custody.Lost:
		if e.Why == custody.WhyUndone && e.Segment == "" {
			c.Next++
		}
		if e.Why == custody.WhyDeleted {
			end(e.Record)
		}
	}
}

// noteSigner returns the signer of checkpoints for a key.
func noteSigner(device string, key ed25519.PrivateKey) (note.Signer, error) {
	line, err := note.NewEd25519VerifierKey(custody.Origin(device), key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	hash := strings.SplitN(line, "+", 3)[1]
	raw := append([]byte{1}, key.Seed()...)
	return note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", custody.Origin(device), hash, base64.StdEncoding.EncodeToString(raw)))
}

// signCheckpoint signs c with key.
func signCheckpoint(c *custody.Checkpoint, key ed25519.PrivateKey) ([]byte, error) {
	s, err := noteSigner(c.Device, key)
	if err != nil {
		return nil, err
	}
	return c.Sign(s)
}

func sha(p []byte) []byte {
	h := sha256.Sum256(p)
	return h[:]
}
