package main

import (
	"holdfast/crypto/custody"
)

// cutOnes are vaults that a cut or a failing medium left: accepted, with exit code 3.
func cutOnes() []scenario {
	return []scenario{
		{"cut-open", "a cut while a segment was open; it was not started again", "cut", 3, "", func() *result {
			b, _ := flying()
			return all(b)
		}},
		{"cut-open-tail", "a cut between the flush of an open segment and the next checkpoint: the tail is in place and counted", "cut", 3, "", func() *result {
			b, open := flying()
			b.more(open, 7)
			return all(b)
		}},
		{"cut-tail-leaves", "a cut before the first checkpoint that would count the newest leaves and segment", "cut", 3, "", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			name := b.open()
			b.record(name, 5)
			b.writeOpen(name)
			return all(b)
		}},
		{"cut-before-leaf-o", "a cut after the first flush of a segment, before its leaf O", "cut", 3, "", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			b.segments++
			b.header("T000002")
			b.record("T000002", 5)
			b.writeOpen("T000002")
			return all(b)
		}},
		{"cut-begin-record", "a cut before leaf K: a folder with its key, and a segment with nothing but its age header", "cut", 3, "", func() *result {
			b := flown(1)
			b.folder('G', crew)
			b.files[b.rec+"/T000001.open.age"] = b.headerOnly()
			return all(b)
		}},
		{"cut-close-write", "a cut while the closed form was being written", "cut", 3, "", func() *result {
			b, open := flying()
			p := b.sealed(open)
			b.files[b.rec+"/"+open+".age.tmp"] = p[:len(p)/2]
			return all(b)
		}},
		{"cut-close-rename", "a cut after the closed form had its name, before leaf C", "cut", 3, "", func() *result {
			b, open := flying()
			b.files[b.rec+"/"+open+".age"] = b.sealed(open)
			return all(b)
		}},
		{"cut-close-leaf", "a cut after leaf C, before the open form was removed", "cut", 3, "", func() *result {
			b, open := flying()
			p := b.file(b.rec + "/" + open + ".open.age")
			b.close(open)
			b.files[b.rec+"/"+open+".open.age"] = p
			return all(b)
		}},
		{"cut-close-unsigned", "a cut between leaf C and its checkpoint: the open form counts", "cut", 3, "", func() *result {
			b, open := flying()
			p := b.sealed(open)
			b.files[b.rec+"/"+open+".age"] = p
			b.add(&custody.Closed{Record: b.rec, Segment: open, Size: int64(len(p)), SHA256: hash(p), From: b.t, To: b.t, Frames: 5, T: b.t})
			return all(b)
		}},
		{"cut-close-removed", "a cut after the open form was removed, before leaf Z", "cut", 3, "", func() *result {
			b, open := flying()
			b.close(open)
			return all(b)
		}},
		{"recovered", "a cut, a second boot that named what was there, and a record after it", "cut", 3, "", func() *result {
			b, open := flying()
			b.again(open + ".open.age")
			b.flight('G', crew, 1)
			return all(b)
		}},
		{"recovered-signed", "a cut behind a flush that no checkpoint named; the second boot named all of the open form, and what was signed of it", "cut", 3, "", func() *result {
			b, open := flying()
			b.more(open, 7)
			b.again(open + ".open.age")
			b.flight('G', crew, 1)
			return all(b)
		}},
		{"recovered-closed", "a cut after the closed form had its name, before any checkpoint named the open one; the second boot removed that and named the closed one", "cut", 3, "", func() *result {
			b, open := flyingUnnamed()
			b.files[b.rec+"/"+open+".age"] = b.sealed(open)
			b.again(open + ".age")
			return all(b)
		}},
		{"recovered-closed-both", "the same, and a second cut before the open form was removed", "cut", 3, "", func() *result {
			b, open := flyingUnnamed()
			path := b.rec + "/" + open
			b.writeOpen(open)
			b.files[path+".age"] = b.sealed(open)
			b.again(open + ".age")
			return all(b)
		}},
		{"recovered-set-aside", "a cut after the closed form had its name; the second boot named the open one, of which a checkpoint had spoken, and was cut before it removed the other", "cut", 3, "", func() *result {
			b, open := flying()
			b.files[b.rec+"/"+open+".age.tmp"] = b.sealed(open)
			b.again(open + ".open.age")
			return all(b)
		}},
		{"recovered-without-o", "a cut after the first flush of a segment, before its leaf O; the second boot named it", "cut", 3, "", func() *result {
			b := started()
			b.begin('F', crew)
			b.segments++
			b.header("T000001")
			b.record("T000001", 5)
			b.writeOpen("T000001")
			b.opened = nil
			b.again("T000001.open.age")
			return all(b)
		}},
		{"recovered-pub", "a cut before flight.pub was synced: it is there with zero bytes", "cut", 3, "", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			b.files[b.rec+"/flight.pub"] = append(b.files[b.rec+"/flight.pub"][:40:40], make([]byte, 100)...)
			b.again()
			return all(b)
		}},
		{"failed-segment", "an open segment failed, and no closed form could be written: its durable part counts; the block that stands behind it is in the next segment too", "cut", 3, "", func() *result {
			b, open := flying()
			path := b.rec + "/" + open
			n := len(b.file(path + ".open.age"))
			block, again := b.block, b.seq
			b.more(open, 4)
			frames := b.Frames
			b.fail(open, n)
			next := b.open()
			b.block, b.seq = block, again
			b.record(next, 4)
			b.Frames = frames
			b.close(next)
			b.end()
			r := all(b)
			r.apartSilent = true
			return r
		}},
		{"torn-slot", "power failed while a checkpoint slot was written", "cut", 3, "V11", func() *result {
			b := flown(1)
			slot := "LOG/cp." + string(rune('A'+1-b.slot))
			b.files[slot] = append(b.files[slot][:300:300], make([]byte, len(b.files[slot])-300)...)
			return all(b)
		}},
		{"torn-first-slot", "power failed while the first checkpoint of all was written", "cut", 3, "V11", func() *result {
			b := started()
			delete(b.files, "LOG/cp.B")
			b.files["LOG/cp.A"] = append(b.files["LOG/cp.A"][:100:100], make([]byte, 412)...)
			return all(b)
		}},
		{"torn-leaf", "power failed while a leaf was written", "cut", 3, "V12", func() *result {
			b := flown(1)
			n := len(b.log)
			b.lock()
			b.files["LOG/log.bin"] = b.log[:n+20]
			return all(b)
		}},
		{"torn-leaf-cut-off", "the boot after that cut the torn bytes off and said so", "cut", 3, "", func() *result {
			b, open := flying()
			b.pass(second)
			b.boot(4*second, custody.SlotsTorn, 20)
			b.recover(b.rec, open+".open.age")
			b.lock()
			b.checkpoint()
			return all(b)
		}},
	}
}

// flyingUnnamed is a board whose flight has a closed segment and an open one that no checkpoint
// names yet, with frames that are not on the medium.
func flyingUnnamed() (b *board, open string) {
	b = started()
	b.begin('F', crew)
	b.segment(5)
	open = b.open()
	b.record(open, 5)
	return b, open
}

// again is a start after a cut, which names what the cut left of the record.
func (b *board) again(names ...string) {
	b.boot(5*second, custody.SlotsGood, 0)
	b.recover(b.rec, names...)
	b.lock()
	b.checkpoint()
}
