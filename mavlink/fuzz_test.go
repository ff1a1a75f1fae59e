package mavlink_test

import (
	"bytes"
	"slices"
	"testing"

	"holdfast/mavlink"
)

// pieces are what compose puts together.
var pieces = [][]byte{
	beat, beatV2, timeV2, signed, strange, stranger, oldOne, nested, swallow,
	broken(beat), broken(stranger), []byte("g"), {0xFD}, {0xFE}, beat[:7], stranger[:12], {0xFD, 3, 1, 0, 0},
}

// compose makes a stream of a script: a fuzzer finds no checksum by itself.
func compose(script []byte) []byte {
	var b []byte
	for _, op := range script {
		b = append(b, pieces[int(op)%len(pieces)]...)
	}
	return b
}

// FuzzScanner holds for any input, however it is cut into Writes: frames and noise are the
// input, and they are what the reference finds.
func FuzzScanner(f *testing.F) {
	for i, s := range streams {
		f.Add(s.in, []byte{byte(i), 1, 40, 3}, false)
	}
	f.Add([]byte{0, 5, 6, 1, 8, 11, 7, 5, 9, 5, 14, 0}, []byte{9}, true)
	f.Fuzz(func(t *testing.T, data, cuts []byte, script bool) {
		if script {
			data = compose(data[:min(len(data), 500)])
		}
		want := reference(data)
		c := scanAll(data)
		checkWhole(t, c, data)
		if got := c.perByte(); !slices.Equal(got, want) {
			t.Fatalf("in one Write\ngot  %q\nwant %q", got, want)
		}
		c = scanCut(data, cuts)
		checkWhole(t, c, data)
		if got := c.perByte(); !slices.Equal(got, want) {
			t.Fatalf("cut by %v\ngot  %q\nwant %q", cuts, got, want)
		}
	})
}

// scanCut writes data in pieces whose sizes cuts gives, over and over.
func scanCut(data, cuts []byte) *collector {
	c := new(collector)
	s := mavlink.NewScanner(c)
	for i := 0; len(data) > 0; i++ {
		n := 1
		if len(cuts) > 0 {
			n = int(cuts[i%len(cuts)]) + 1
		}
		own := bytes.Clone(data[:min(n, len(data))])
		s.Write(0, own)
		data = data[len(own):]
		clear(own)
	}
	s.End(0)
	return c
}
