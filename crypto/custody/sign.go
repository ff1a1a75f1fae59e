package custody

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// BootMessage is what the device key signs in a leaf Boot: format section 6.2. index is the
// leaf's own, root that of the leaves before it.
func BootMessage(device string, b *Boot, index int64, root tlog.Hash) []byte {
	return fmt.Appendf(nil, "holdfast/v1 boot\n%s\n%d\n%d\n%d\n%s\n%d\n%d\n%s\n%s\n",
		device, b.Boot, b.T, b.Signed, b.Slots, b.Torn, index, root, base64.StdEncoding.EncodeToString(b.Key))
}

// EpochMessage is what the key in force signs in a leaf Epoch.
func EpochMessage(device string, e *Epoch, index int64, root tlog.Hash) []byte {
	return fmt.Appendf(nil, "holdfast/v1 epoch\n%s\n%d\n%d\n%d\n%d\n%s\n%s\n", device, e.Boot, e.Epoch, e.T, index, root, base64.StdEncoding.EncodeToString(e.Key))
}

// SaltSize is the number of bytes of the salt of a record's fingerprints.
const SaltSize = 16

// Fingerprint is that of a recipient in a leaf FlightKey: format section 6.5. The salt is
// sealed with the record, so that only who opens it can tell whose keys it was sealed to.
func Fingerprint(salt []byte, recipient string) string {
	h := sha256.New()
	fmt.Fprintf(h, "holdfast/v1 recipient\n%s%s", salt, recipient)
	return hex.EncodeToString(h.Sum(nil)[:16])
}
