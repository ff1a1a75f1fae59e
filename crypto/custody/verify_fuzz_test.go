package custody_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"holdfast/crypto/custody"
)

// quiet is a vault without a cut: one changed byte in it has to show.
func quiet(t testing.TB) *built {
	b := build(t)
	b.start()
	b.record('G', 1)
	b.tick(anEpoch)
	b.record('F', 2)
	b.grouped("V")
	b.lost("deleted", "G00000001", "")
	b.drop("G00000001")
	b.deleting = []string{"G00000001"}
	b.checkpoint()
	b.now = aSecond
	b.start()
	return b
}

// change does to a copy of files what the bytes of a fuzz input say: flip, cut, splice, remove or
// copy over. It tells whether any file is different then.
func change(files fstest.MapFS, how []byte) (changed fstest.MapFS, differs bool) {
	names := slices.Sorted(maps.Keys(files))
	changed = maps.Clone(files)
	for ; len(how) >= 4; how = how[4:] {
		name := names[int(how[0])%len(names)]
		f := changed[name]
		if f == nil {
			continue
		}
		p := slices.Clone(f.Data)
		at := 0
		if len(p) > 0 {
			at = (int(how[2])<<8 | int(how[3])) % len(p)
		}
		switch how[1] % 5 {
		case 0:
			if len(p) > 0 {
				p[at] ^= 1 << (how[1] / 5 % 8)
			}
		case 1:
			p = p[:at]
		case 2:
			p = append(p[:at:at], p[len(p)/2:]...)
		case 3:
			delete(changed, name)
			continue
		case 4:
			p = slices.Clone(files[names[int(how[2])%len(names)]].Data)
		}
		changed[name] = &fstest.MapFile{Data: p, Mode: 0o600}
	}
	differs = len(changed) != len(files)
	for name, f := range changed {
		differs = differs || string(f.Data) != string(files[name].Data)
	}
	return changed, differs
}

// FuzzVerify changes a small vault that is clean. Whatever was done to it, Verify ends with a
// verdict, and the verdict is not clean.
func FuzzVerify(f *testing.F) {
	b := quiet(f)
	clean := b.verify()
	if clean.State != custody.VerdictClean {
		f.Fatal(lines(said(clean)))
	}
	for name := range byte(12) {
		for how := range byte(5) {
			f.Add([]byte{name, how, 0, 77})
			f.Add([]byte{name, how, 3, 1, name + 1, how + 1, 0, 9})
		}
	}
	f.Fuzz(func(t *testing.T, how []byte) {
		files, differs := change(b.files, how[:min(len(how), 40)])
		options := func(o *custody.Options) {
			o.Device, o.DeviceKey, o.Readme = b.id, b.device.Verifier(), []byte(readMe)
		}
		if r := verify(t, files, options); differs == (r.State == custody.VerdictClean) {
			t.Errorf("differs: %v, and the verdict is %s\n%s", differs, r.State, lines(said(r)))
		}
		verify(t, files, options, func(o *custody.Options) { o.InUse = true })
	})
}

// TestEveryByte flips each byte of a clean vault, one at a time: none is left uncovered. It takes
// each fifth, and all with HOLDFAST_LONG=1.
func TestEveryByte(t *testing.T) {
	b := quiet(t)
	for name, f := range b.files {
		step := 1
		if len(f.Data) > 1500 && !strings.HasPrefix(name, "LOG/") {
			step = 97
		}
		if os.Getenv("HOLDFAST_LONG") == "" {
			step *= 5
		}
		for at := 0; at < len(f.Data); at += step {
			files := maps.Clone(b.files)
			p := slices.Clone(f.Data)
			p[at] ^= 1
			files[name] = &fstest.MapFile{Data: p}
			r := verify(t, files, func(o *custody.Options) { o.DeviceKey, o.Readme = b.device.Verifier(), []byte(readMe) })
			if r.State == custody.VerdictClean {
				t.Errorf("byte %d of %s was changed, and the verdict is clean", at, name)
			}
		}
	}
}
