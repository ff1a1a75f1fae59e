package custody_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"holdfast/crypto/custody"
)

// FuzzLeaf wants what parses to encode to the same bytes, and nothing else to parse.
func FuzzLeaf(f *testing.F) {
	for _, tt := range goodBodies {
		f.Add(byte(tt.kind), []byte(tt.body))
	}
	for _, tt := range badBodies {
		f.Add(byte(tt.kind), badLeaf(f, tt.kind, tt.old, tt.new).Body)
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		e, err := custody.Leaf{Kind: custody.Kind(kind), Body: body}.Entry()
		if err != nil {
			if !errors.Is(err, custody.ErrLeaf) || e != nil {
				t.Errorf("%+v, %v", e, err)
			}
			return
		}
		l, err := custody.NewLeaf(e)
		if err != nil || byte(l.Kind) != kind || !bytes.Equal(l.Body, body) {
			t.Errorf("encoded again: %v %s, %v", l.Kind, l.Body, err)
		}
		if e.Time() < 0 || e.Time() > 1<<53-1 {
			t.Errorf("time %d", e.Time())
		}
	})
}

// FuzzCheckpoint wants what parses to be signed again to the same bytes: there is one form.
func FuzzCheckpoint(f *testing.F) {
	signed := signedCheckpoints(f)
	for _, msg := range signed {
		f.Add(msg)
		f.Add(msg[:len(msg)/2])
	}
	for _, tt := range badTexts {
		f.Add(resign(f, signed["all lines"], tt.old, tt.new))
	}
	s, key := checkpointSigner(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		c, err := custody.ParseCheckpoint(msg)
		if err != nil {
			if !errors.Is(err, custody.ErrCheckpoint) || c != nil {
				t.Errorf("%+v, %v", c, err)
			}
			// A text under the tests' own key is signed anew, so that the fuzzer gets past the
			// signature.
			at := bytes.LastIndex(msg, []byte("\n\n"))
			if at < 0 || at > custody.MaxCheckpoint {
				return
			}
			if c, err = custody.ParseCheckpoint(signText(t, string(msg[:at+1]), s)); err != nil {
				return
			}
			msg = nil
		}
		if !c.Key.Equal(key) || c.Device != checkpointDevice {
			return
		}
		again, err := c.Sign(s)
		if err != nil {
			t.Fatalf("signed again: %v", err)
		}
		if d, err := custody.ParseCheckpoint(again); err != nil || d.Root != c.Root || d.Size != c.Size {
			t.Errorf("parsed again: %+v, %v", d, err)
		}
	})
}

// FuzzReader wants the good bytes, read back, to be the bytes of the leaves.
func FuzzReader(f *testing.F) {
	var whole []byte
	for _, tt := range goodBodies {
		whole = custody.Leaf{Kind: tt.kind, Body: []byte(tt.body)}.Append(whole)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(bytes.Clone(whole), make([]byte, 512)...))
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF, 'L', '{', '}'})
	f.Fuzz(func(t *testing.T, file []byte) {
		r := custody.NewReader(bytes.NewReader(file))
		var back []byte
		for {
			l, err := r.Next()
			if err != nil {
				if clean := len(back) == len(file); clean != errors.Is(err, io.EOF) || !clean && !errors.Is(err, custody.ErrLeaf) {
					t.Errorf("%d good bytes of %d: %v", len(back), len(file), err)
				}
				break
			}
			back = l.Append(back)
		}
		if r.Offset() != int64(len(back)) || !bytes.HasPrefix(file, back) {
			t.Errorf("offset %d, %d bytes of leaves", r.Offset(), len(back))
		}
	})
}

// FuzzLoad loads anything and goes on from it: the log that results must load again without a
// loss, and count what Load found.
func FuzzLoad(f *testing.F) {
	good := flown(f)
	file, a, b := good.store.log, good.store.slots[0], good.store.slots[1]
	zeros := make([]byte, 512)
	f.Add(file, a, b)
	f.Add(file[:len(file)-9], a, b)
	f.Add(file[:20], b, a)
	f.Add(append(bytes.Clone(file), zeros...), zeros, b)
	f.Add(file, zeros, zeros)
	f.Add([]byte{}, a, []byte{})
	for _, tt := range badBodies {
		f.Add(badLeaf(f, tt.kind, tt.old, tt.new).Append(bytes.Clone(file)), a, b)
	}
	f.Fuzz(func(t *testing.T, file, a, b []byte) {
		n := newBoard(t)
		n.store.log, n.store.slots = bytes.Clone(file), [2][]byte{a, b}
		st := n.load()
		if st.Bytes < 0 || st.Torn < 0 || st.Bytes+st.Torn != int64(len(file)) || st.Next < 1 || st.Frontier.Size() < 0 {
			t.Fatalf("%+v", st)
		}
		leaves := st.Frontier.Size()
		l := n.start()
		if err := l.Add(lockLeaf()); err != nil {
			t.Fatalf("add: %v", err)
		}
		if err := l.Checkpoint(nil); err != nil {
			t.Fatalf("checkpoint: %v", err)
		}
		if again := n.load(); again.Lost || again.Torn != 0 || again.Frontier.Size() != leaves+2 || again.Signed != leaves+2 {
			t.Fatalf("loaded again: %+v after %d leaves", again, leaves)
		}
	})
}
