package main

import (
	"math/rand/v2"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
)

// accepted are vaults that are whole.
func accepted() []scenario {
	return []scenario{
		{"clean-flight", "a flight of two segments, ended in good order", "clean", 0, "", func() *result { return all(flown(2)) }},
		{"clean-several", "a ground record, a flight and a ground record", "clean", 0, "", func() *result {
			b := started()
			for _, kind := range []byte("GFG") {
				b.flight(kind, crew, 1)
			}
			return all(b)
		}},
		{"clean-empty-record", "a record without any segment", "clean", 0, "", func() *result { return all(flown(0)) }},
		{"boots", "three boots with a record each, and a boot without one", "clean", 0, "", func() *result {
			b := started()
			b.flight('F', crew, 1)
			for range 2 {
				b.start("good")
				b.flight('G', crew, 1)
			}
			b.start("good")
			return all(b)
		}},
		{"epochs", "a record over three epochs, with a segment in each, and an idle hour", "clean", 0, "", func() *result {
			b := started()
			b.begin('F', crew)
			for range 3 {
				b.segment(3)
				b.pass(epoch)
			}
			b.end()
			b.pass(60 * epoch)
			b.checkpoint()
			return all(b)
		}},
		{"epoch-boundary-at-end", "the last leaf is an E, and no checkpoint follows it", "clean", 0, "", func() *result {
			b := flown(1)
			b.pass(epoch)
			return all(b)
		}},
		{"leaf-at-boundary", "leaf K at the first microsecond of an epoch, the leaf before at the last of the epoch before", "clean", 0, "", func() *result {
			b := started()
			b.pass(b.began + epoch - 1 - b.t)
			b.lock()
			b.pass(1)
			b.flight('F', crew, 1)
			return all(b)
		}},
		{"deleted", "the first of two flights was deleted to make room", "clean", 0, "", func() *result {
			b := flown(1)
			n := len(b.Frames)
			b.flight('F', crew, 1)
			b.delete("F00000001")
			b.drop("F00000001")
			b.deleting = nil
			b.checkpoint()
			return some(b, b.Frames[n:], nil)
		}},
		{"deleted-half", "the power failed while the folder of a deleted flight was being removed: what is left is passed over", "clean", 0, "", func() *result {
			b := flown(2)
			n := len(b.Frames)
			b.flight('F', crew, 1)
			b.delete("F00000001")
			delete(b.files, "F00000001/T000001.age")
			delete(b.files, "F00000001/flight.key.age")
			return some(b, b.Frames[n:], nil)
		}},
		{"failed-then-closed", "the open form of a segment failed, and its closed form could still be written from memory", "clean", 0, "", func() *result {
			b, open := flying()
			b.fail(open, len(b.file(b.rec+"/"+open+".open.age")))
			b.close(open)
			b.segment(3)
			b.end()
			return all(b)
		}},
		{"undone", "numbers of a record and of two segments were taken back; the folder of one could not be removed", "clean", 0, "", func() *result {
			b := started()
			b.folder('F', crew)
			b.add(&custody.Lost{Record: b.rec, T: b.t, Why: custody.WhyUndone})
			b.next++
			b.begin('F', crew)
			b.segment(3)
			for _, begun := range []bool{true, false} {
				b.segments++
				s := "T00000" + string(rune('0'+b.segments))
				if begun {
					b.add(&custody.Opened{Record: b.rec, Segment: s, T: b.t})
				}
				b.add(&custody.Lost{Record: b.rec, Segment: s, T: b.t, Why: custody.WhyUndone})
			}
			b.segment(3)
			b.end()
			return all(b)
		}},
		{"recipients-classical", "one X25519 recipient", "clean", 0, "", func() *result { return forCrew(classicIdentity, recipientOf(classicIdentity)) }},
		{"recipients-mixed", "two hybrid recipients and a classical one: two wrapped files, the second opens", "clean", 0, "", func() *result {
			return forCrew(classicIdentity, recipientOf(hybridIdentity), recipientOf(recoveryIdentity), recipientOf(classicIdentity))
		}},
		{"recipients-recovery", "two hybrid recipients in one file, the second opens", "clean", 0, "", func() *result {
			return forCrew(recoveryIdentity, recipientOf(hybridIdentity), recipientOf(recoveryIdentity))
		}},
		{"two-persons", "R1 + R2, hybrid and classical: both identities are needed", "clean", 0, "", func() *result {
			r := forCrew(hybridIdentity, recipientOf(hybridIdentity)+" + "+recipientOf(secondIdentity))
			r.identities = append(r.identities, secondIdentity)
			return r
		}},
		{"stored-blocks", "zstd frames of raw blocks, one of them of more than one block", "clean", 0, "", func() *result {
			b := started()
			b.begin('F', crew)
			s := b.open()
			stored := func(blk *segment.Block) { blk.Stored = true }
			b.record(s, 3, stored)
			b.record(s, 4700, stored)
			b.record(s, 3)
			b.close(s)
			b.end()
			return all(b)
		}},
		{"noise", "noise runs between frames, in two blocks, one without any entry", "clean", 0, "", func() *result {
			b := started()
			b.begin('F', crew)
			s := b.open()
			noisy := func(blk *segment.Block) {
				p := make([]byte, 100)
				rand.NewChaCha8([32]byte{7}).Read(p)
				blk.Noise = segment.AppendNoise(nil, segment.NoiseRun{Offset: b.link, StampUsec: uint64(b.t), Reason: 1, Data: p})
				blk.Noise = segment.AppendNoise(blk.Noise, segment.NoiseRun{Offset: b.link + 100, StampUsec: uint64(b.t), Reason: 77, Data: p[:1]})
				b.link += 101
			}
			b.record(s, 3, noisy)
			b.record(s, 0, noisy)
			b.close(s)
			b.end()
			return all(b)
		}},
		{"repeated-block", "a block stands in two segments, as after a failed sync: it is taken once", "clean", 0, "", func() *result {
			b := started()
			b.begin('F', crew)
			s := b.open()
			b.record(s, 4)
			b.close(s)
			n := b.block
			s = b.open()
			b.block = n - 1
			frames := b.Frames
			b.record(s, 4)
			b.Frames = frames
			b.block = n + 1
			b.record(s, 4)
			b.close(s)
			b.end()
			return all(b)
		}},
		{"pinned", "with the device key from outside", "clean", 0, "", func() *result {
			r := all(flown(1))
			r.pinned = r.pub
			return r
		}},
		{"head", "with a checkpoint from the first flight, kept outside", "clean", 0, "", func() *result {
			b := flown(1)
			head := b.file("LOG/cp." + string(rune('A'+1-b.slot)))
			b.start("good")
			b.flight('F', crew, 1)
			r := all(b)
			r.head = head
			return r
		}},
	}
}

// forCrew is a flight for recipients, opened by one identity.
func forCrew(identity string, recipients ...string) *result {
	b := started()
	lines := ""
	for _, r := range recipients {
		lines += r + "\n"
	}
	b.flight('F', lines, 1)
	r := all(b)
	r.identities = []string{identity}
	return r
}

// delete writes leaf X deleted and its checkpoint.
func (b *board) delete(record string) {
	b.deleting = append(b.deleting, record)
	b.add(&custody.Lost{Record: record, T: b.t, Why: custody.WhyDeleted})
	b.checkpoint()
}

// fail writes leaf X failed over the first n bytes of an open segment.
func (b *board) fail(segment string, n int) {
	p := b.file(b.rec + "/" + segment + ".open.age")
	size := int64(n)
	b.opened = nil
	b.add(&custody.Lost{Record: b.rec, Segment: segment, Size: &size, SHA256: hash(p[:n]), T: b.t, Why: custody.WhyFailed})
}
