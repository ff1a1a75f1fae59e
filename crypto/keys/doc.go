// Package keys holds what the board and the operator's tool know about keys: the operators'
// recipients, identity files, the identity of one flight, the device key and the signing key of
// an operator.
//
// Recipients and identities are those of age (https://c2sp.org/age), the keys that sign are
// signed-note keys (https://pkg.go.dev/golang.org/x/mod/sumdb/note). No cipher, key wrap or
// derivation is made here.
//
// The package opens no file, starts no process and reads no clock: the caller passes readers
// in and writes results out. It opens nothing that is sealed; package open does that.
//
// No error of this package repeats the text it was given, because that text may be a secret
// that was pasted into the wrong file.
package keys
