package vault

import "slices"

// Unsaved returns the encoded blocks of telemetry (package segment) of the record that ended last which
// no sync has made durable: nil where End kept all. They are for a vault on another medium, and
// for memory alone: they are not sealed.
func (v *Vault) Unsaved() []byte { return v.unsaved }

// keepUnsaved notes what a record that ends has not made durable.
func (v *Vault) keepUnsaved(s *stream) {
	v.unsaved = slices.Clone(s.carry)
	if s.cur != nil {
		v.unsaved = append(v.unsaved, s.cur.encoded[s.cur.synced:]...)
	}
}
