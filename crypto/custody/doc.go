// Package custody is the public signed log of a device, format v1 (docs/format/v1.md, section 6):
// leaves, the RFC 6962 tree over them (golang.org/x/mod/sumdb/tlog), checkpoints as C2SP signed
// notes, the keys that sign them, and verification without any decryption key.
//
// It opens no file, reads no clock and starts no goroutine; what it reads and writes is passed in.
// It never sees what is sealed.
package custody
