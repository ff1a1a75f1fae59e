package mavlink_test

import (
	"testing"

	"holdfast/mavlink"
)

func parse(t *testing.T, raw []byte) *mavlink.Frame {
	t.Helper()
	f, ok := mavlink.ParseFrame(raw)
	if !ok {
		t.Fatalf("%x is no frame", raw)
	}
	return &f
}

func TestDecodeHeartbeat(t *testing.T) {
	armed := mavlink.Heartbeat{CustomMode: 0x04030201, Type: 2, Autopilot: 3, BaseMode: 0x81, SystemStatus: 4}
	for _, tc := range []struct {
		name string
		raw  []byte
		want mavlink.Heartbeat
		ok   bool
	}{
		{"v1", beat, armed, true},
		{"v2", beatV2, armed, true},
		{"v2 cut zeros", v2(0, 0, 0, []byte{1, 2, 3, 4, 2, 3}), mavlink.Heartbeat{CustomMode: 0x04030201, Type: 2, Autopilot: 3}, true},
		{"v2 empty", v2(0, 0, 0, nil), mavlink.Heartbeat{}, true},
		{"v2 longer", v2(0, 0, 0, []byte{1, 2, 3, 4, 2, 3, 0x81, 4, 3, 9, 9, 9}), armed, true},
		{"v1 cut", v1(0, 0, []byte{1, 2, 3}), mavlink.Heartbeat{}, false},
		{"another message", timeV2, mavlink.Heartbeat{}, false},
	} {
		got, ok := mavlink.DecodeHeartbeat(parse(t, tc.raw))
		if got != tc.want || ok != tc.ok || got.Armed() != (got.BaseMode >= 0x80) {
			t.Errorf("%s: %+v %v", tc.name, got, ok)
		}
	}
}

func TestDecodeSystemTime(t *testing.T) {
	for _, tc := range []struct {
		name string
		raw  []byte
		want mavlink.SystemTime
		ok   bool
	}{
		{"v1", v1(2, 0, []byte{1, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 4}), mavlink.SystemTime{UnixUsec: 0x0200000000000001, BootMs: 0x04000003}, true},
		{"v2 cut zeros", timeV2, mavlink.SystemTime{UnixUsec: 5}, true},
		{"another message", beat, mavlink.SystemTime{}, false},
	} {
		got, ok := mavlink.DecodeSystemTime(parse(t, tc.raw))
		if got != tc.want || ok != tc.ok {
			t.Errorf("%s: %+v %v", tc.name, got, ok)
		}
	}
	if _, ok := mavlink.DecodeSystemTime(&mavlink.Frame{ID: mavlink.MsgSystemTime}); ok {
		t.Error("a frame without bytes was decoded")
	}
}

func TestGapCounter(t *testing.T) {
	var g mavlink.GapCounter
	for i, tc := range []struct {
		system, component, seq uint8
		expected               uint8
		lost                   int
	}{
		{1, 1, 200, 0, 0}, // the first tells nothing
		{1, 1, 201, 0, 0},
		{1, 1, 204, 202, 2},
		{1, 2, 7, 0, 0}, // another component counts by itself
		{2, 1, 0, 0, 0},
		{1, 1, 205, 0, 0},
		{1, 1, 205, 0, 0}, // repeated
		{1, 1, 206, 0, 0},
		{1, 1, 1, 207, 50}, // over the end of the numbers
		{2, 1, 255, 1, 254},
		{2, 1, 0, 0, 0},
		{2, 1, 0, 0, 0}, // 255 lost or repeated: taken for the latter
		{255, 255, 255, 0, 0},
		{255, 255, 0, 0, 0},
		{255, 255, 255, 1, 254},
		// As PX4 sends from two threads: neighbours swap places.
		{3, 1, 135, 0, 0},
		{3, 1, 137, 136, 1},
		{3, 1, 136, 0, 0}, // late
		{3, 1, 138, 0, 0},
		{3, 1, 141, 139, 2},
		{3, 1, 142, 0, 0},
		{3, 1, 140, 0, 0}, // late, behind two others
		{3, 1, 143, 0, 0},
		{3, 1, 139, 0, 0},     // late, behind four
		{3, 1, 139, 144, 251}, // not missing any more
		{3, 1, 190, 140, 50},
		{3, 1, 160, 0, 0},     // late, behind thirty
		{3, 1, 149, 191, 214}, // too far behind
	} {
		f := &mavlink.Frame{System: mavlink.SystemID(tc.system), Component: mavlink.ComponentID(tc.component), Seq: tc.seq, At: 9}
		gap, is := g.Observe(f)
		want := mavlink.Gap{}
		if tc.lost > 0 {
			want = mavlink.Gap{System: f.System, Component: f.Component, At: 9, Expected: tc.expected, Got: tc.seq, Lost: tc.lost}
		}
		if gap != want || is != (tc.lost > 0) {
			t.Errorf("frame %d: %+v %v, want %+v", i, gap, is, want)
		}
	}
	if g.Total() != 2+50+254+254+1+2+251+50+214 {
		t.Errorf("total %d", g.Total())
	}
	f := &mavlink.Frame{System: 1, Component: 77}
	if n := testing.AllocsPerRun(100, func() { f.Seq += 3; g.Observe(f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
