package media_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"holdfast/firmware/media"
)

func box(kind string, content ...[]byte) []byte {
	c := bytes.Join(content, nil)
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(c))), kind...), c...)
}

func handler(kind string) []byte {
	return box("trak", box("tkhd", make([]byte, 20)), box("mdia", box("hdlr", make([]byte, 8), []byte(kind), make([]byte, 13))))
}

func long(b []byte) []byte {
	p := append([]byte{0, 0, 0, 1}, b[4:8]...)
	return append(binary.BigEndian.AppendUint64(p, uint64(len(b)+8)), b[8:]...)
}

// TestSoundIn: sound is found whatever the pieces in which it comes, and however it is written.
func TestSoundIn(t *testing.T) {
	ftyp, pad := box("ftyp", []byte("isom0000")), box("free", make([]byte, 300))
	pat := tsPacket(0, true, table(0, []byte{0, 1, 0xE1, 0}))
	stream := func(kind byte, tags ...byte) []byte {
		return append(bytes.Clone(pat), append(programMap([]byte{0x1B, 0xE1, 1, 0xF0, 0}, append([]byte{kind, 0xE1, 2, 0xF0, byte(len(tags))}, tags...)), tsPacket(0x101, true, []byte{0, 0, 1, 0xE0})...)...)
	}
	for _, tc := range []struct {
		what           string
		p              []byte
		sound, unknown bool
	}{
		{"TS", transport(false), false, false},
		{"TS with AAC", transport(true), true, false},
		{"TS with AC-3 of ATSC", stream(0x81), true, false},
		{"TS with private AC-3", stream(6, 0x6A, 1, 0), true, false},
		{"TS with Opus", stream(6, 5, 4, 'O', 'p', 'u', 's'), true, false},
		{"TS with subtitles", stream(6, 0x59, 1, 0), false, false},
		{"TS with packets of sound and no map", append(tsPacket(0x101, true, []byte{0, 0, 1, 0xE0}), tsPacket(0x102, true, []byte{0, 0, 1, 0xC3})...), true, false},
		{"MP4", fragmented(t, false), false, false},
		{"MP4 with AAC", fragmented(t, true), true, false},
		{"MP4, the second track", append(bytes.Clone(ftyp), box("moov", handler("vide"), handler("soun"), pad)...), true, false},
		{"MP4, a long box", append(bytes.Clone(ftyp), long(box("moov", handler("vide"), handler("soun"), pad))...), true, false},
		{"MP4, other tracks", append(bytes.Clone(ftyp), box("moov", handler("vide"), handler("text"), pad)...), false, false},
		{"MP4, nothing said yet", append(bytes.Clone(ftyp), pad...), false, true},
		{"MP4, a box that cannot be", append(bytes.Clone(ftyp), append([]byte{0, 0, 0, 3}, bytes.Repeat([]byte("moov"), 60)...)...), true, false},
		{"MP4, tracks that cannot be told", append(bytes.Clone(ftyp), box("moov", []byte{0, 1, 0, 0, 't', 'r', 'a', 'k'}, pad)...), true, false},
		{"MP4, tracks without a length", append(bytes.Clone(ftyp), append([]byte{0, 0, 0, 0}, bytes.Repeat([]byte("moov"), 60)...)...), true, false},
		{"MP4, pictures before tracks", append(bytes.Clone(ftyp), box("mdat", make([]byte, 5<<20))...), true, false},
		{"H.264", h264(), false, false},
		{"noise", noise(5000), false, false},
	} {
		for _, n := range []int{1, 7, 188, 4096, 1 << 20} {
			if n == 1 && len(tc.p) > 1<<20 {
				continue
			}
			what, unknown := media.SoundIn(tc.p, n)
			if (what != "") != tc.sound || unknown != tc.unknown {
				t.Errorf("%s in pieces of %d: %q, unknown %v", tc.what, n, what, unknown)
			}
		}
	}
}

// TestJPEGs: each is found whole, with its thumbnail inside and whatever between.
func TestJPEGs(t *testing.T) {
	a, b := jpeg(1000), jpeg(77)
	p := bytes.Join([][]byte{noise(50), a, {0, 0, 0xFF, 0xFF}, b, {0xFF, 0xD8, 0xFF, 0xDB, 0, 1}, a, {0xFF, 0xD8, 0xFF}}, nil)
	for _, n := range []int{1, 2, 3, 64, 1 << 20} {
		got := media.JPEGs(p, n)
		if len(got) != 3 || !bytes.Equal(got[0], a) || !bytes.Equal(got[1], b) || !bytes.Equal(got[2], a) {
			t.Errorf("in pieces of %d: %d", n, len(got))
		}
	}
}

// FuzzSoundAndJPEG: whatever comes, both end, and say the same of the whole as of pieces.
func FuzzSoundAndJPEG(f *testing.F) {
	f.Add(transport(true)[:1000], 7)
	f.Add(fragmented(f, true)[:900], 100)
	f.Add(bytes.Repeat(jpeg(50), 3), 5)
	f.Fuzz(func(t *testing.T, p []byte, n int) {
		n = max(n&0xFFF, 1)
		whole, unknown := media.SoundIn(p, len(p)+1)
		parts, unknown2 := media.SoundIn(p, n)
		if (whole == "") != (parts == "") || whole == "" && unknown != unknown2 {
			t.Errorf("whole: %q %v, in pieces of %d: %q %v", whole, unknown, n, parts, unknown2)
		}
		a, b := media.JPEGs(p, len(p)+1), media.JPEGs(p, n)
		if !bytes.Equal(bytes.Join(a, []byte("|")), bytes.Join(b, []byte("|"))) {
			t.Errorf("%d JPEGs, in pieces %d", len(a), len(b))
		}
	})
}
