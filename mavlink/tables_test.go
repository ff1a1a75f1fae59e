package mavlink_test

import (
	"math/rand/v2"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/all"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
	"github.com/bluenviron/gomavlib/v3/pkg/x25"

	"holdfast/mavlink"
)

// TestCRCExtra computes the table anew from the dialect.
func TestCRCExtra(t *testing.T) {
	want := map[uint32]byte{}
	for _, m := range all.Dialect.Messages {
		rw := &message.ReadWriter{Message: m}
		if err := rw.Initialize(); err != nil {
			t.Fatal(err)
		}
		want[m.GetID()] = rw.CRCExtra()
	}
	if len(want) < 300 || want[0] != 50 {
		t.Fatalf("%d messages, HEARTBEAT has %d", len(want), want[0])
	}
	for id := range uint32(1 << 17) {
		extra, known := mavlink.CRCExtra(id)
		w, ok := want[id]
		if known != ok || extra != w {
			t.Errorf("id %d: %d %v, want %d %v: run go generate", id, extra, known, w, ok)
		}
		delete(want, id)
	}
	for id := range want {
		t.Errorf("id %d is not covered", id)
	}
	for _, id := range []uint32{unknownV1, unknownV2, 1<<24 - 1, 1 << 31, 1<<32 - 1} {
		if extra, known := mavlink.CRCExtra(id); known || extra != 0 {
			t.Errorf("id %d is known", id)
		}
	}
}

func TestChecksum(t *testing.T) {
	if got := mavlink.Checksum([]byte("123456789")); got != 0x6F91 {
		t.Errorf("check value %#x, want 0x6f91", got)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		h := x25.New()
		h.Write(p)
		if got := mavlink.Checksum(p); got != h.Sum16() {
			t.Errorf("%d bytes: %#x, want %#x", n, got, h.Sum16())
		}
	}
}
