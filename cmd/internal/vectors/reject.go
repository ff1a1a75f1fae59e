package main

import (
	"bytes"

	"golang.org/x/mod/sumdb/tlog"

	"holdfast/crypto/custody"
)

// rejectedLogs are vaults whose log breaks one of V1 to V12 or V16, under signatures that are
// right wherever the rule is not about them.
func rejectedLogs() []scenario {
	tampered := func(name, comment, rule string, build func() *result) scenario {
		return scenario{name, comment, "tampered", 4, rule, build}
	}
	missing := func(name, comment, rule string, build func() *result) scenario {
		return scenario{name, comment, "missing", 4, rule, build}
	}
	return []scenario{
		tampered("v01-boot-number", "the first boot is number 2", "V1", func() *result {
			b := newBoard(1)
			b.boots = 1
			b.start("none")
			b.flight('F', crew, 1)
			return all(b)
		}),
		tampered("v01-first-leaf", "the first leaf is L", "V1", func() *result {
			b := newBoard(1)
			b.lock()
			b.start("none")
			b.flight('F', crew, 1)
			return all(b)
		}),
		missing("v01-no-log", "log.bin is empty, the checkpoints are gone", "V1", func() *result {
			b := flown(1)
			b.files["LOG/log.bin"] = nil
			delete(b.files, "LOG/cp.A")
			delete(b.files, "LOG/cp.B")
			return some(b, nil, b.Frames)
		}),
		tampered("v02-boot-signature", "one bit of the signature of a later boot", "V2", func() *result {
			b := flown(1)
			n := len(b.Frames)
			b.pass(epoch)
			b.editSigned = func(e custody.Entry) { e.(*custody.Boot).Sig[5] ^= 1 }
			b.start("good")
			b.flight('F', crew, 1)
			return some(b, b.Frames[:n], b.Frames[n:])
		}),
		tampered("v02-boot-facts", "a later boot says torn where its signature says good", "V2", func() *result {
			b := flown(1)
			n := len(b.Frames)
			b.pass(epoch)
			b.editSigned = func(e custody.Entry) { e.(*custody.Boot).Slots = "torn" }
			b.start("good")
			b.editSigned = nil
			b.flight('F', crew, 1)
			return some(b, b.Frames[:n], b.Frames[n:])
		}),
		tampered("v02-device-pub", "device.pub is that of another board", "V2", func() *result {
			b := flown(1)
			b.files["LOG/device.pub"] = []byte(newBoard(2).pub)
			r := all(b)
			r.silent = true
			return r
		}),
		missing("v02-device-pub-gone", "device.pub is gone; the key is known from outside", "V2", func() *result {
			r := all(flown(1))
			delete(r.files, "LOG/device.pub")
			r.pinned = r.pub
			return r
		}),
		tampered("v02-pinned", "a whole vault of another board", "V2", func() *result {
			r := all(flown(1))
			r.pinned, r.silent = newBoard(2).pub, true
			return r
		}),
		tampered("v03-epoch-signature", "one bit of the signature of an E", "V3", func() *result {
			b := flown(1)
			n := len(b.Frames)
			b.pass(epoch)
			b.editSigned = func(e custody.Entry) { e.(*custody.Epoch).Sig[5] ^= 1 }
			b.pass(epoch)
			b.editSigned = nil
			b.flight('F', crew, 1)
			return some(b, b.Frames[:n], b.Frames[n:])
		}),
		tampered("v03-epoch-skipped", "an epoch without its E: epoch 2 follows epoch 0", "V3", func() *result {
			b := flown(1)
			b.epoch++
			b.t = b.began + epoch
			b.pass(epoch)
			b.flight('F', crew, 1)
			return all(b)
		}),
		tampered("v03-epoch-early", "an E before its epoch begins", "V3", func() *result {
			b := flown(1)
			key := b.newKey()
			b.epoch++
			b.sign(&custody.Epoch{Boot: 1, Epoch: 1, Key: public(key), T: b.t}, key)
			b.t = b.began + epoch
			b.flight('F', crew, 1)
			return all(b)
		}),
		tampered("v03-outside-epoch", "a leaf of the next epoch before its E", "V3", func() *result {
			b := flown(1)
			b.t = b.began + epoch
			b.lock()
			b.pass(1)
			b.flight('F', crew, 1)
			return all(b)
		}),
		tampered("v04-time-back", "a leaf a microsecond before the one before it", "V4", func() *result {
			b := flown(1)
			b.t--
			b.lock()
			b.t++
			b.checkpoint()
			return all(b)
		}),
		tampered("v05-slots-bad", "a boot found both checkpoints bad", "V5", func() *result {
			b := flown(1)
			b.start("bad")
			return all(b)
		}),
		missing("v05-signed", "a boot found a checkpoint that counted more leaves than the log had", "V5", func() *result {
			b := flown(1)
			b.signed += 4
			b.start("good")
			return all(b)
		}),
		tampered("v06-record-gap", "number 2 follows nothing", "V6", func() *result {
			b := started()
			b.next++
			b.flight('F', crew, 1)
			return all(b)
		}),
		tampered("v07-segment-gap", "a stream begins with segment 2", "V7", func() *result {
			b := started()
			b.begin('F', crew)
			b.segments++
			b.segment(5)
			b.end()
			return all(b)
		}),
		tampered("v07-end-count", "leaf Z counts a segment more than there is", "V7", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			b.segments++
			b.end()
			return all(b)
		}),
		tampered("v07-end-open", "leaf Z although a segment has not ended", "V7", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			b.open()
			b.files[b.rec+"/T000002.open.age"] = b.headerOnly()
			b.end()
			r := all(b)
			return r
		}),
		tampered("v07-after-end", "a segment after leaf Z", "V7", func() *result {
			b := flown(1)
			b.open()
			b.files[b.rec+"/T000002.open.age"] = b.headerOnly()
			b.checkpoint()
			return all(b)
		}),
		tampered("v07-closed-twice", "two leaves C of one segment", "V7", func() *result {
			b := started()
			b.begin('F', crew)
			b.close(b.segment(5))
			b.end()
			return all(b)
		}),
		tampered("v08-no-recovery", "a record that a cut ended has no R before the next K", "V8", func() *result {
			b, open := flying()
			b.close(open)
			b.start("good")
			b.flight('G', crew, 1)
			return all(b)
		}),
		tampered("v08-late-recovery", "R stands behind L", "V8", func() *result {
			b, open := flying()
			b.start("good")
			b.recover(b.rec, open+".open.age")
			b.checkpoint()
			return all(b)
		}),
		tampered("v09-deleted-running", "X deleted of a record that has not ended; its folder is still there", "V9", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			b.done(b.rec)
			b.delete(b.rec)
			r := some(b, nil, nil)
			r.silent = true
			return r
		}),
		tampered("v09-deleted-twice", "a record is deleted twice", "V9", func() *result {
			b := flown(1)
			b.drop(b.rec)
			b.delete(b.rec)
			b.deleting = nil
			b.delete(b.rec)
			return some(b, nil, nil)
		}),
		tampered("v10-root", "the newest checkpoint, signed by the right key, has another root", "V10", func() *result {
			b := flown(1)
			b.editCP = func(c *custody.Checkpoint) { c.Root = tlog.Hash{1} }
			b.pass(second)
			b.checkpoint()
			return all(b)
		}),
		tampered("v10-foreign-key", "the newest checkpoint is signed by a key that the log does not name", "V10", func() *result {
			b := flown(1)
			key := b.newKey()
			b.cp.Key = public(key)
			b.files["LOG/cp."+string(rune('A'+1-b.slot))] = b.signCP(b.cp, key)
			return all(b)
		}),
		tampered("v10-time", "a checkpoint of a later epoch than its key's", "V10", func() *result {
			b := flown(1)
			b.editCP = func(c *custody.Checkpoint) { c.T = b.began + epoch }
			b.checkpoint()
			return all(b)
		}),
		tampered("v10-live", "a checkpoint names a record live that has ended", "V10", func() *result {
			b := flown(1)
			b.editCP = func(c *custody.Checkpoint) { c.Live = []string{b.rec} }
			b.checkpoint()
			return all(b)
		}),
		tampered("v11-both-bad", "both checkpoints were overwritten", "V11", func() *result {
			b := flown(1)
			for _, s := range []string{"LOG/cp.A", "LOG/cp.B"} {
				b.files[s] = make([]byte, 1024)
			}
			return some(b, nil, b.Frames)
		}),
		tampered("v11-both-bad-cut", "both checkpoints of a flight that a cut ended were overwritten; an E proves its first segment, nothing the open one", "V11", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			open := b.open()
			b.record(open, 5)
			b.pass(epoch)
			b.writeOpen(open)
			b.files["LOG/cp.A"], b.files["LOG/cp.B"] = make([]byte, 512), make([]byte, 512)
			return some(b, b.Frames[:5], b.Frames[5:])
		}),
		tampered("v11-both-gone", "both checkpoints are gone", "V11", func() *result {
			b := flown(1)
			delete(b.files, "LOG/cp.A")
			delete(b.files, "LOG/cp.B")
			return some(b, nil, b.Frames)
		}),
		missing("v12-truncated", "the last leaf was cut off log.bin", "V12", func() *result {
			b := flown(1)
			b.files["LOG/log.bin"] = b.log[:b.inLog('Z', 0)]
			return all(b)
		}),
		tampered("v12-flipped", "one bit of leaf C in the middle of log.bin", "V12", func() *result {
			b := flown(1)
			b.flip("LOG/log.bin", b.inLog('C', 0)+30)
			return some(b, nil, b.Frames)
		}),
		tampered("v12-not-canonical", "a leaf with a space in its JSON, counted and signed", "V12", func() *result {
			b := flown(1)
			n := len(b.Frames)
			b.pass(epoch)
			b.leaf(custody.Leaf{Kind: custody.KindLock, Body: []byte(`{"grade":"none", "lock":"bench","refused":0,"t":63000000}`)})
			b.flight('F', crew, 1)
			return some(b, b.Frames[:n], b.Frames[n:])
		}),
		missing("v16-rolled-back", "the vault is as it was before the last flight", "V16", func() *result {
			b := flown(1)
			old, frames := cloneFiles(b), b.Frames
			b.flight('F', crew, 1)
			head := b.file("LOG/cp." + string(rune('A'+1-b.slot)))
			b.files = old
			r := some(b, frames, nil)
			r.head = head
			return r
		}),
		tampered("v16-fork", "another history of the same board, with the same keys, than the head is of", "V16", func() *result {
			head := flown(1)
			b := newBoard(1)
			b.t = 1
			b.start("none")
			b.flight('F', crew, 2)
			r := all(b)
			r.head = head.file("LOG/cp." + string(rune('A'+1-head.slot)))
			return r
		}),
		tampered("v16-foreign-key", "the head is signed by a key that the log does not name", "V16", func() *result {
			r := all(flown(1))
			key := r.newKey()
			r.cp.Key = public(key)
			r.head = r.signCP(r.cp, key)
			return r
		}),
	}
}

func cloneFiles(b *board) map[string][]byte {
	old := map[string][]byte{}
	for name, p := range b.files {
		old[name] = bytes.Clone(p)
	}
	return old
}
