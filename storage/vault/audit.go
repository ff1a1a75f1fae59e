package vault

import (
	"time"

	"holdfast/storage/segment"
)

// Stream X, the audit: lines of text, one JSON object each.

const (
	// auditBuffer is how many bytes of lines may wait here.
	auditBuffer = 64 << 10
	// auditBytes ends a segment.
	auditBytes = 512 << 10
	// auditRoom is what a flush may need of the medium.
	auditRoom = 256 << 10
)

// Audit takes a line, with its line feed, for stream X of the record that is open, or of the next
// one. It is false where too much waits already: the medium is slow, has no room beside what is
// reserved for telemetry, or no record was begun for long. The line is durable after some Steps,
// half of Interval apart at the least.
func (v *Vault) Audit(line []byte) bool {
	q := &v.audit
	if q.held+len(line) > auditBuffer {
		return false
	}
	if len(q.blocks) == 0 {
		q.add(segment.Block{Data: make([]byte, 0, 4<<10)}, v.cfg.Now())
	}
	b := &q.blocks[0]
	b.Data = append(b.Data, line...)
	b.Meta.Frames++
	q.held += len(line)
	return true
}

// AuditDue tells when the next Step for stream X is due; ok is false where none is.
func (v *Vault) AuditDue() (at time.Duration, ok bool) { return v.sideDue(&v.audit) }
