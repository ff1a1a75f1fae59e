package main

import (
	"slices"
	"strings"

	"holdfast/crypto/custody"
)

// audits are vaults with stream X, and with leaves L elsewhere than at a start.
func audits() []scenario {
	return slices.Concat(auditsAccepted(), auditsRejected())
}

// ticket is the number of a statement.
const ticket = "0102030405060708090a0b0c0d0e0f10"

// locked adds a leaf L.
func (b *board) locked(lock, grade string, refused int64, ticket string) {
	b.add(&custody.Lock{Lock: lock, Grade: grade, Refused: refused, Ticket: ticket, T: b.t})
}

// audited is a flight with two segments of telemetry and two of audit, ended in good order.
func audited() *board {
	b := started()
	b.begin('F', crew)
	b.segment(5)
	b.audit(3)
	b.locked("bench", "none", 3, "")
	b.segment(5)
	b.audit(2)
	b.locked("bench", "none", 2, "")
	b.end()
	return b
}

func auditsAccepted() []scenario {
	return []scenario{
		{"audit", "a flight with attempts in two segments of stream X, and leaves L that count them", "clean", 0, "", func() *result { return all(audited()) }},
		{"audit-blocks", "a segment of stream X with blocks of several lines, one of which stands there twice, as after a failed sync: it is taken once", "clean", 0, "", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			name := b.openAudit()
			b.attempts(name, 4)
			b.attempts(name, 1)
			n, lines := b.auditBlock, b.Lines
			b.Lines = lines[:4]
			b.auditBlock, b.t = n-1, b.t-10
			b.attempts(name, 1)
			b.attempts(name, 2)
			b.close(name)
			b.end()
			return all(b)
		}},
		{"audit-open", "a cut while a segment of stream X was open; a second flush of it stands behind the checkpoint", "cut", 3, "", func() *result {
			b, _ := flying()
			name := b.openAudit()
			b.attempts(name, 3)
			b.writeOpen(name)
			b.sortOpened()
			b.checkpoint()
			from := len(b.encoded[b.rec+"/"+name])
			b.attempts(name, 2)
			b.flush(name, b.encoded[b.rec+"/"+name][from:])
			return all(b)
		}},
		{"audit-recovered", "the next start found that, and leaf R names it", "cut", 3, "", func() *result {
			b, open := flying()
			name := b.openAudit()
			b.attempts(name, 3)
			b.writeOpen(name)
			b.sortOpened()
			b.checkpoint()
			b.boot(b.t+3*second, "good", 0)
			b.recover(b.rec, open+".open.age", name+".open.age")
			b.lock()
			b.checkpoint()
			b.flight('G', crew, 1)
			return all(b)
		}},
		{"audit-refused", "there was no room for a segment of stream X beside what is kept for telemetry, and later there was", "clean", 0, "", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			b.audits++
			b.add(&custody.Opened{Record: b.rec, Segment: "X000001", T: b.t})
			b.add(&custody.Lost{Record: b.rec, Segment: "X000001", T: b.t, Why: custody.WhyRefused})
			b.audit(2)
			b.end()
			return all(b)
		}},
		{"lock-changes", "the lock was open for a while during a flight, and closed again", "clean", 0, "", func() *result {
			b := newBoard(1)
			b.boot(3*second, "none", 0)
			b.locked("locked", "B", 0, "")
			b.checkpoint()
			b.begin('F', crew)
			b.segment(5)
			b.locked("open", "none", 7, "")
			b.segment(5)
			b.locked("locked", "B", 0, "")
			b.segment(5)
			b.end()
			return all(b)
		}},
		{"maintenance", "the lock was open for a ticket between two records, and once more for another one until a start", "clean", 0, "", func() *result {
			b := newBoard(1)
			b.boot(3*second, "none", 0)
			b.locked("locked", "B", 0, "")
			b.checkpoint()
			b.flight('F', crew, 1)
			b.locked("open", "none", 0, ticket)
			b.pass(600 * second)
			b.locked("locked", "B", 1, "")
			b.flight('G', crew, 1)
			b.locked("open", "none", 0, strings.Repeat("ff", 16))
			b.checkpoint()
			b.start("good")
			b.flight('G', crew, 1)
			return all(b)
		}},
	}
}

func auditsRejected() []scenario {
	tampered := func(name, comment, rule string, build func() *result) scenario {
		return scenario{name, comment, "tampered", 4, rule, build}
	}
	const x1 = "F00000001/X000001.age"
	return []scenario{
		{"v13-audit-gone", "a segment of stream X is gone", "missing", 4, "V13", func() *result {
			b := audited()
			delete(b.files, x1)
			r := all(b)
			r.lines = b.Lines[3:]
			return r
		}},
		tampered("v13-audit-replaced", "a segment of stream X was replaced by one that anybody can seal to flight.pub", "V13", func() *result {
			b := audited()
			true3, lines := b.Lines[:3], b.Lines[3:]
			b.encoded[b.rec+"/X000001"], b.auditBlock, b.Lines = nil, 0, nil
			b.header("X000001")
			b.attempts("X000001", 1)
			b.files[x1] = b.sealed("X000001")
			r := all(b)
			r.lines, r.away = lines, b.Lines
			b.Lines = slices.Concat(true3, lines)
			return r
		}),
		tampered("v13-audit-open-short", "an open segment of stream X is shorter than the checkpoint says", "V13", func() *result {
			b, _ := flying()
			name := b.openAudit()
			b.attempts(name, 3)
			b.writeOpen(name)
			b.sortOpened()
			b.checkpoint()
			path := b.rec + "/" + name + ".open.age"
			b.files[path] = b.files[path][:30000]
			r := all(b)
			r.lines = nil
			return r
		}),
		{"v15-audit-added", "a segment of stream X that the log does not name", "unsigned", 4, "V15", func() *result {
			b := audited()
			n := len(b.Lines)
			b.header("X000003")
			b.attempts("X000003", 1)
			b.files["F00000001/X000003.age"] = b.sealed("X000003")
			r := all(b)
			r.lines, r.away = b.Lines[:n], b.Lines[n:]
			return r
		}},
		tampered("v07-audit-end-count", "leaf Z does not count stream X", "V7", func() *result {
			b := audited()
			b.begin('G', crew)
			b.audit(1)
			b.audits = 0
			b.end()
			return all(b)
		}),
		tampered("v12-ticket-locked", "a leaf L with a ticket says that the lock is closed", "V12", func() *result {
			b := flown(1)
			b.pass(epoch)
			b.leaf(custody.Leaf{Kind: custody.KindLock, Body: []byte(`{"grade":"B","lock":"locked","refused":0,"t":63000000,"ticket":"` + ticket + `"}`)})
			b.checkpoint()
			return all(b)
		}),
		tampered("v17-no-lock", "a boot that begins a record without saying how the lock stands", "V17", func() *result {
			b := newBoard(1)
			b.boot(3*second, "none", 0)
			b.checkpoint()
			b.flight('F', crew, 1)
			return all(b)
		}),
		tampered("v17-no-lock-later", "a later boot does", "V17", func() *result {
			b := flown(1)
			b.boot(b.t+3*second, "good", 0)
			b.checkpoint()
			b.flight('F', crew, 1)
			return all(b)
		}),
		tampered("v17-ticket", "a record was begun while the lock was open for a ticket", "V17", func() *result {
			b := flown(1)
			b.locked("open", "none", 0, ticket)
			b.flight('F', crew, 1)
			return all(b)
		}),
	}
}

// sortOpened puts the open lines into the order of a checkpoint.
func (b *board) sortOpened() {
	slices.SortFunc(b.opened, func(a, c custody.OpenFile) int { return strings.Compare(a.Record+"/"+a.Name, c.Record+"/"+c.Name) })
}
