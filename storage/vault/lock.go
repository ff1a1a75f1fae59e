package vault

import (
	"cmp"

	"holdfast/crypto/custody"
)

// lockLeaf adds the leaf L of a start.
func (v *Vault) lockLeaf() {
	h := &v.cfg.Header
	h.Lock, h.Grade = cmp.Or(h.Lock, "open"), cmp.Or(h.Grade, "none")
	v.log.add(&custody.Lock{Lock: h.Lock, Grade: h.Grade})
}

// SetLock says what the network lock is from now on: in the public log, as leaf number leaf, and in
// the headers of segments that are begun from now on. The leaf is in memory; the next sync of the
// log that a Step makes, or Settle, makes it durable. ErrClosed after Close; other errors are
// custody's, and then there is no leaf.
func (v *Vault) SetLock(l custody.Lock) (leaf int64, err error) {
	if v.lock == nil {
		return 0, ErrClosed
	}
	if err := v.log.log.Add(&l); err != nil {
		return 0, err
	}
	v.cfg.Header.Lock, v.cfg.Header.Grade = l.Lock, l.Grade
	v.log.want()
	v.headMedia()
	return v.log.log.Size() - 1, nil
}

// Settle makes the public log durable and signs it, at once: for what must not go on before.
func (v *Vault) Settle() error {
	if v.lock == nil {
		return ErrClosed
	}
	return v.log.now()
}

// Found is the number of leaves that this start found in the log, its own not counted.
func (v *Vault) Found() int64 { return v.log.found }

// Boot counts the starts of the recorder on this device, from 1, as leaf B does.
func (v *Vault) Boot() int64 { return v.log.log.Boot() }

// DeviceID is the name of the device's folder.
func (v *Vault) DeviceID() string { return v.cfg.DeviceID }

// LockState is what the newest leaf L says.
func (v *Vault) LockState() (lock, grade string) { return v.cfg.Header.Lock, v.cfg.Header.Grade }
