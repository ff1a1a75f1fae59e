package recorder_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/firmware/recorder"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// TestFilesAtArming: what is put when the vehicle arms lies in the record of the flight, although that
// begins only when the heartbeat has come through the ring; what was put before lies in the one before.
func TestFilesAtArming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := newBench(t), newLine(true)
		put := func(r *recorder.Recorder, id int) {
			if _, ok := r.PutFile(segment.File{ID: id, Kind: segment.KindParams, Source: "autopilot", Format: "param", End: true}, make([]byte, vault.MaxFilePiece)); !ok {
				t.Errorf("file %d: no room", id)
			}
		}
		b.record(recorder.Config{}, l, func(r *recorder.Recorder) {
			for i := range 4 {
				l.in <- own(uint8(i), false)
				time.Sleep(500 * time.Millisecond)
			}
			l.in <- own(4, true)
			synctest.Wait()
			for i := range 3 { // the writer looks at each
				put(r, 1+i)
				synctest.Wait()
			}
			for i := range 4 {
				time.Sleep(500 * time.Millisecond)
				l.in <- own(uint8(5+i), true)
			}
			time.Sleep(time.Second)
		})
		for name := range b.disk.Files() {
			if parts := strings.Split(name, "/"); len(parts) == 3 && parts[2][0] == 'A' && parts[1] != "F00000002" {
				t.Errorf("%s: a file of the flight", name)
			}
		}
		if all := b.read(); len(all) != 2 {
			t.Errorf("records %v", ids(all))
		}
	})
}
