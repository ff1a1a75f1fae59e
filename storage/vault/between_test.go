package vault_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// cutOpen is the medium of a vault that lost its power while a segment was open, with durable
// bytes that a checkpoint names.
func cutOpen(t *testing.T) (d *storagetest.Disk, line custody.OpenFile) {
	t.Helper()
	d, now := storagetest.New(1), &clock{}
	v := mustOpen(t, config(d, now))
	v.SetArmed(true)
	must(t, v.Begin(vault.Flight, vault.RecordID{}))
	for i := range uint64(3) {
		must(t, v.Append(&segment.Block{Data: entries(10*i, 10*i+10)}))
		must(t, v.Flush())
		for now.now += signPause; v.Step(); {
		}
	}
	must(t, v.Append(&segment.Block{Data: entries(30, 40)}))
	must(t, v.Flush()) // no checkpoint names these
	d = d.Crash(storagetest.Strict)
	open := newest(t, d.Files()).Open
	if len(open) != 1 || open[0].Bytes < 3*65536 || int64(len(d.Files()[device+"/F00000001/T000001.open.age"])) < open[0].Bytes+65536 {
		t.Fatalf("open lines %+v", open)
	}
	return d, open[0]
}

const signPause = 2e9 // ns

// forgedClose appends a right leaf C for these bytes, as anybody can.
func forgedClose(t *testing.T, d *storagetest.Disk, closed []byte) {
	t.Helper()
	all := leaves(t, d.Files())
	l, err := custody.NewLeaf(&custody.Closed{Record: "F00000001", Segment: "T000001", Size: int64(len(closed)), SHA256: hashOf(closed), T: all[len(all)-1].Time()})
	must(t, err)
	must(t, d.Corrupt(device+"/LOG/log.bin", func(p []byte) []byte { return l.Append(p) }))
}

// TestChangedBetween: what somebody does to an open segment while the board is off stays provable
// when the board was switched on again and its checkpoints from before are gone. What power alone
// leaves is cut.
func TestChangedBetween(t *testing.T) {
	const open, closed = device + "/F00000001/T000001.open.age", device + "/F00000001/T000001.age"
	put := func(t *testing.T, d *storagetest.Disk, name string, data []byte) {
		f, err := d.Create(name)
		must(t, err)
		_, err = f.Write(data)
		must(t, err)
		must(t, f.Sync())
		must(t, d.SyncDir(device+"/F00000001"))
	}
	forged := bytes.Repeat([]byte("sealed by anybody"), 1000)
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, d *storagetest.Disk, signed int64)
		want custody.Verdict
	}{
		{"nothing", func(*testing.T, *storagetest.Disk, int64) {}, custody.VerdictCut},
		{"cut to what is signed", func(t *testing.T, d *storagetest.Disk, n int64) {
			must(t, d.Corrupt(open, func(p []byte) []byte { return p[:n] }))
		}, custody.VerdictCut},
		{"a byte shorter than that", func(t *testing.T, d *storagetest.Disk, n int64) {
			must(t, d.Corrupt(open, func(p []byte) []byte { return p[:n-1] }))
		}, custody.VerdictTampered},
		{"emptied", func(t *testing.T, d *storagetest.Disk, n int64) {
			must(t, d.Corrupt(open, func(p []byte) []byte { return nil }))
		}, custody.VerdictTampered},
		{"changed", func(t *testing.T, d *storagetest.Disk, n int64) {
			must(t, d.Corrupt(open, func(p []byte) []byte { p = slices.Clone(p); p[n/2] ^= 1; return p }))
		}, custody.VerdictTampered},
		{"deleted", func(t *testing.T, d *storagetest.Disk, n int64) { must(t, d.Remove(open)) }, custody.VerdictMissing},
		{"a closed form beside it", func(t *testing.T, d *storagetest.Disk, n int64) { put(t, d, closed, forged) }, custody.VerdictCut},
		{"a closed form in its place", func(t *testing.T, d *storagetest.Disk, n int64) {
			put(t, d, closed, forged)
			must(t, d.Remove(open))
		}, custody.VerdictMissing},
		{"changed, and a closed form beside it with a leaf C", func(t *testing.T, d *storagetest.Disk, n int64) {
			must(t, d.Corrupt(open, func(p []byte) []byte { p = slices.Clone(p); p[n/2] ^= 1; return p }))
			put(t, d, closed, forged)
			forgedClose(t, d, forged)
		}, custody.VerdictTampered},
		{"a closed form in its place with a leaf C", func(t *testing.T, d *storagetest.Disk, n int64) {
			put(t, d, closed, forged)
			forgedClose(t, d, forged)
			must(t, d.Remove(open))
		}, custody.VerdictMissing},
		{"the whole record deleted", func(t *testing.T, d *storagetest.Disk, n int64) {
			entries, err := d.ReadDir(device + "/F00000001")
			must(t, err)
			for _, e := range entries {
				must(t, d.Remove(device+"/F00000001/"+e.Name()))
			}
			must(t, d.Remove(device+"/F00000001"))
		}, custody.VerdictMissing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, line := cutOpen(t)
			tt.do(t, d, line.Bytes)
			v := mustOpen(t, config(d, &clock{}))
			must(t, v.Begin(vault.Ground, vault.RecordID{})) // replaces both checkpoints
			must(t, v.Append(&segment.Block{Data: entries(50, 60)}))
			must(t, v.Close())
			files := d.Files()
			rep, _ := verify(files)
			if rep.State != tt.want || len(newest(t, files).Open) > 0 {
				t.Errorf("the verdict is %s, want %s: %+v", rep.State, tt.want, rep.Findings)
			}
			if forged := files[closed]; tt.want == custody.VerdictCut && forged != nil {
				t.Error("a closed form that nothing names still stands beside the open one")
			}
			r := of[*custody.Recovered](leaves(t, files))
			if len(r) != 1 || len(r[0].Files) != 1 {
				t.Fatalf("%d leaves R: %+v", len(r), r)
			}
			if f := r[0].Files[0]; f.SignedSize == nil || *f.SignedSize != line.Bytes || !bytes.Equal(f.SignedSHA256, line.SHA256) || f.Name != line.Name {
				t.Errorf("leaf R names %+v", f)
			}
		})
	}
}

func hashOf(p []byte) []byte { h := sha256.Sum256(p); return h[:] }
