// Package imports holds the table of which package may import which, and a test that
// compares it with what `go list -deps` tells. It has no code of its own.
//
// The walls are those that keep promises: what runs on the board cannot open what it
// wrote (no crypto/open), the vault knows bytes and not MAVLink, the sealing code touches
// no file and no network, and neither program carries an HTTP or TLS client. A package
// that the table does not name fails the test, so that the table stays whole.
//
// Imports of test files are not looked at: tests may reach across walls.
package imports
