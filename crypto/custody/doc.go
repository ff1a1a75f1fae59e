// Package custody is the public signed log of a device, format v1 (docs/format/v1.md, section 6):
// leaves, the RFC 6962 tree over them (golang.org/x/mod/sumdb/tlog), checkpoints as C2SP signed
// notes, the keys that sign them, and verification without any decryption key.
//
// It opens no file, reads no clock and starts no goroutine; what it reads and writes is passed in.
// It never sees what is sealed.
//
// On the board: Load finds where the log goes on, NewLog begins a boot, Log adds leaves in memory
// (Add, Tick), makes them durable (Sync) and signs them (Checkpoint).
//
// # Keys in memory
//
// The key of an epoch stands in one buffer that the next key overwrites. What signing left of it
// elsewhere is erased, in builds of which Wipes is true, by the next garbage collection after
// the epoch: seal.Wipe, which the vault calls after each segment, runs one, and the Go runtime
// does after two minutes at the latest. In other builds it stays in freed memory until
// something overwrites it. The device key is the caller's.
package custody
