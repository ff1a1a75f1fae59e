package vault_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"holdfast/crypto/custody"
	"holdfast/storage/storagetest"
	"holdfast/storage/vault"
)

// countFS counts what a start reads.
type countFS struct {
	vault.FS
	opened int
	read   int
}

func (c *countFS) ReadDir(name string) ([]fs.DirEntry, error) {
	c.opened++
	return c.FS.ReadDir(name)
}

func (c *countFS) ReadFile(name string) ([]byte, error) {
	p, err := c.FS.ReadFile(name)
	c.opened, c.read = c.opened+1, c.read+len(p)
	return p, err
}

func (c *countFS) OpenSynced(name string) (io.ReadSeekCloser, error) {
	c.opened++
	r, err := c.FS.OpenSynced(name)
	if err != nil {
		return nil, err
	}
	return &countReader{r, c}, nil
}

type countReader struct {
	io.ReadSeekCloser
	c *countFS
}

func (r *countReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeekCloser.Read(p)
	r.c.read += n
	return n, err
}

// memoryLog is a custody.Store that hands over what it holds.
type memoryLog struct {
	log   []byte
	slots [2][]byte
}

func (m *memoryLog) Append(p []byte) error         { m.log = append(m.log, p...); return nil }
func (m *memoryLog) Sync() error                   { return nil }
func (m *memoryLog) Rewind(n int64) error          { m.log = m.log[:n]; return nil }
func (m *memoryLog) PutSlot(i int, p []byte) error { m.slots[i] = p; return nil }

// oldVault makes a vault with a number of records that have ended.
func oldVault(t testing.TB, records int) *storagetest.Disk {
	t.Helper()
	d, m := storagetest.New(1), &memoryLog{}
	must(t, mustOpen(t, config(d, &clock{})).Close())
	st, err := custody.Load(device, [2][]byte{}, 0, nil)
	must(t, err)
	l, err := custody.NewLog(custody.Config{Device: device, DeviceKey: deviceKey(), Now: (&clock{}).read, Rand: chacha(), Store: m}, st)
	must(t, err)
	must(t, l.Add(&custody.Lock{Lock: "bench", Grade: "none"}))
	must(t, l.Checkpoint(nil))
	for n := range records {
		name := fmt.Sprintf("F%08d", n+1)
		must(t, l.Add(&custody.FlightKey{Record: name, Pub: "age1pq1", Files: []custody.KeyFile{{Name: "flight.key.age", Data: []byte("wrapped")}},
			Recipients: []string{strings.Repeat("0", 32)}, Policy: custody.Policy{Record: "always", WhenFull: "stop"}}))
		must(t, l.Add(&custody.Ended{Record: name, Segments: map[string]int64{}}))
		must(t, d.Mkdir(device+"/"+name))
	}
	must(t, l.Checkpoint(nil))
	must(t, d.Corrupt(device+"/LOG/log.bin", func([]byte) []byte { return m.log }))
	must(t, d.Corrupt(device+"/LOG/cp.A", func([]byte) []byte { return m.slots[0] }))
	f, err := d.Create(device + "/LOG/cp.B")
	must(t, err)
	_, err = f.Write(m.slots[1])
	must(t, errors.Join(err, f.Sync(), f.Close()))
	return d
}

// TestStartDoesNotGrow: what a start does and reads does not depend on how many records there are.
func TestStartDoesNotGrow(t *testing.T) {
	start := func(records int) (ops, opened, read int) {
		d := oldVault(t, records)
		before := d.Ops()
		c := &countFS{FS: d}
		v := mustOpen(t, config(c, &clock{}))
		ops = d.Ops() - before
		must(t, v.Begin(vault.Flight, vault.RecordID{}))
		if got := v.Record().Number; got != records+1 {
			t.Errorf("record %d, want %d", got, records+1)
		}
		opened, read = c.opened, c.read
		must(t, v.Close())
		return ops, opened, read
	}
	ops, opened, read := start(10)
	ops2, opened2, read2 := start(10_000)
	t.Logf("with 10 records %d operations, %d opened, %d bytes read; with 10,000 %d, %d, %d", ops, opened, read, ops2, opened2, read2)
	if ops2 != ops || opened2 != opened || read2 > read+1024 {
		t.Error("a start grows with the vault")
	}
}
