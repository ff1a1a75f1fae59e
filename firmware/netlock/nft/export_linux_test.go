package nft

import (
	"errors"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Request is what a kernel of a test sees of a batch.
type Request struct {
	Kind   uint16
	Family uint8
	Attrs  []byte
}

// Fake is a kernel that answers batches with an errno or nil.
type Fake func([]Request) error

func (f Fake) batch(msgs []message) error {
	rs := make([]Request, len(msgs))
	for i, m := range msgs {
		rs[i] = Request{m.kind, m.family, m.attrs}
	}
	err := f(rs)
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &batchError{msg: msgs[0], errno: errno}
	}
	return err
}

func (f Fake) dump(uint16, uint8, []byte) ([]netlink.Message, error) { return nil, nil }
func (f Fake) generation() (uint32, error)                           { return 1, nil }
func (f Fake) port() uint32                                          { return 4711 }
func (f Fake) Close() error                                          { return nil }

// DetectOn is Detect on another kernel.
func DetectOn(f Fake) Support { return detect(f) }

// NewOn is New on this kernel as if it lacked something.
func NewOn(c Config, lack func(*Support)) (*Tables, error) {
	t, err := New(c)
	if err == nil {
		lack(&t.set.support)
	}
	return t, err
}

// ErrLack stands for what NewOn is to lack.
var ErrLack = errors.New("left out by a test")

// Decode runs all decoders of dumps over the data of a message.
func Decode(p []byte) (canon string) {
	m := netlink.Message{Data: p}
	_, _ = decodeTable(m)
	_, _, _ = decodeChain(m)
	_, _, _, _ = decodeCounter(m)
	_, _, r, _ := decodeRule(m)
	_ = refusal(p, 1, make([]message, 3))
	return r.canon
}

// RuleData is the data of a message with the rules of an ordinary chain, for Decode.
func RuleData() [][]byte {
	var ps [][]byte
	r := ruleset{group: 1, open: []string{"eth0"}, links: []string{"eth1"}}
	for _, l := range layers {
		t := r.table(l, floorName, false)
		for _, m := range t.make(nil) {
			ps = append(ps, append(genmsg(m.family, 0), m.attrs...))
		}
	}
	return ps
}

// Owned, Floor: the names of the tables of an applied Tables.
const (
	Floor = floorName
	Owned = ownedName
)

// Canonical is the form in which the expressions of a rule are compared.
func Canonical(p []byte) (known, extra string, err error) { return canonical(p) }

// SetFlags sets a table's flags from a socket of its own.
func SetFlags(family byte, name string, flags uint32) error {
	k, err := dial()
	if err != nil {
		return err
	}
	t := table{family: family, name: name, flags: flags}
	return errors.Join(k.batch([]message{t.newTable()}), k.Close())
}
