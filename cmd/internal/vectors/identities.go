package main

import "filippo.io/age"

// Identities of the operators in the vectors. They were made for this and guard nothing.
const (
	hybridIdentity   = "AGE-SECRET-KEY-PQ-1FAW3VQ9XCG7RKK8A2D5NCVEKFSC4LJG0QTNJSLH2JRWYHHP4XKFSMC6REX"
	recoveryIdentity = "AGE-SECRET-KEY-PQ-1K0XJZXGZGK0QDTK3XMZ3H63HPKVTS2W9LAQMS5CHR2N9SJTMA9XSCC4RA5"
	classicIdentity  = "AGE-SECRET-KEY-1GQCQ6HN4F8F5RGQJ0JSP0XGGEAWMXSJ54K482CYDFNDKWHDK295QVV700V"
	secondIdentity   = "AGE-SECRET-KEY-1TP28P0XZQYFMT3T27SH55TWQ8R2TNJFWKTHU0GUAAJ9AQF5YL9NQM0LZGK"
)

// recipientOf returns the recipient of one of them.
func recipientOf(identity string) string {
	if h, err := age.ParseHybridIdentity(identity); err == nil {
		return h.Recipient().String()
	}
	return must(age.ParseX25519Identity(identity)).Recipient().String()
}
