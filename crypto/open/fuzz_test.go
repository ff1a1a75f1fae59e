package open_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"filippo.io/age"

	"holdfast/crypto/open"
)

// FuzzSalvage changes a sealed file at random. Whatever it returns was sealed at that
// position, and no byte of the file is counted twice or forgotten.
func FuzzSalvage(f *testing.F) {
	g := newSegment(f, 4*chunk+1000)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 10})                 // flip in the header
	f.Add([]byte{0, 2, 0, 0, 1, 1, 128, 0})    // flip in a chunk, cut
	f.Add([]byte{2, 0, 10, 5, 3, 3, 0, 0})     // zeros, remove
	f.Add([]byte{4, 1, 0, 0, 5, 4, 200, 1, 1}) // insert, swap
	f.Fuzz(func(t *testing.T, ops []byte) {
		file := mutate(g, ops)
		s, err := open.Salvage(bytes.NewReader(file), int64(len(file)), g.id)
		if err != nil {
			if !errors.Is(err, open.ErrDamaged) && !errors.Is(err, open.ErrNoIdentity) {
				t.Fatalf("an error of no known kind: %v", err)
			}
			return
		}
		found, res := g.drain(t, s)
		if int64(len(found)) != res.Chunks || res.Cut == res.Ended {
			t.Fatalf("%d chunks, %+v", len(found), res)
		}
		if res.Clean() && !bytes.Equal(file, g.file) {
			t.Fatalf("a changed file is clean: %+v", res)
		}
		plain := int64(0)
		for _, i := range found {
			plain += int64(len(g.plain[i*chunk : min(int(i+1)*chunk, len(g.plain))]))
		}
		sum := plain + res.LostBytes + 16*(res.Chunks+res.BadChunks) + res.CutBytes + res.TrailingBytes
		if want := int64(len(file) - g.start); sum != want && res.Chunks+res.BadChunks > 0 {
			t.Fatalf("%d bytes of payload are accounted for, of %d: %+v", sum, want, res)
		}
	})
}

// mutate applies operations of four bytes each: kind, chunk, and a position in it.
func mutate(g segment, ops []byte) []byte {
	file := bytes.Clone(g.file)
	for op := range slices.Chunk(ops[:len(ops)/4*4], 4) {
		at := int(op[1]%6) * sealed
		if op[1] > 5 {
			at += g.start
		}
		at = min(at+int(op[2])<<8+int(op[3]), len(file))
		end := min(at+int(op[3])*100+1, len(file))
		switch op[0] % 6 {
		case 0:
			if at < len(file) {
				file[at] ^= op[3] | 1
			}
		case 1:
			file = file[:at]
		case 2:
			clear(file[at:end])
		case 3:
			file = slices.Delete(file, at, end)
		case 4:
			file = slices.Insert(file, at, op...)
		case 5:
			file = append(bytes.Clone(file[at:]), file[:at]...)
		}
	}
	return file
}

// FuzzSalvageBytes takes files of any form. It begins with the small C2SP vectors, whose
// identities open them in every process.
func FuzzSalvageBytes(f *testing.F) {
	var ids []age.Identity
	seen := make(map[string]bool)
	for _, v := range readVectors(f) {
		if v.armored || v.passphrase || len(v.file) > 4096 {
			continue
		}
		f.Add(v.file)
		for _, id := range v.ids {
			if s := fmt.Sprint(id); !seen[s] {
				seen[s] = true
				ids = append(ids, id)
			}
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := open.Salvage(bytes.NewReader(file), int64(len(file)), ids...)
		if err != nil {
			if !errors.Is(err, open.ErrDamaged) && !errors.Is(err, open.ErrNoIdentity) {
				t.Fatalf("an error of no known kind: %v", err)
			}
			return
		}
		whole := true
		for err == nil {
			var c open.Chunk
			c, err = s.Next()
			whole = whole && c.Lost == 0
		}
		if res := s.Result(); res.Cut == res.Ended || res.Clean() && !whole {
			t.Fatalf("%+v", res)
		}
	})
}

func BenchmarkSalvage(b *testing.B) {
	g := newSegment(b, 64*chunk)
	b.SetBytes(int64(len(g.plain)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := open.Salvage(bytes.NewReader(g.file), int64(len(g.file)), g.id)
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = s.Next()
		}
		if !s.Result().Clean() {
			b.Fatalf("%+v", s.Result())
		}
	}
}

// BenchmarkAgeDecrypt is the same by age alone.
func BenchmarkAgeDecrypt(b *testing.B) {
	g := newSegment(b, 64*chunk)
	b.SetBytes(int64(len(g.plain)))
	for b.Loop() {
		r, err := age.Decrypt(bytes.NewReader(g.file), g.id)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
}
