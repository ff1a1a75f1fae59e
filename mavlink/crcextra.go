package mavlink

//go:generate go run gen/main.go

// CRCExtra returns the CRC_EXTRA byte of a message id: a digest of the message's fields
// that is added to the checksum of each frame, so that both ends agree on the layout
// (https://mavlink.io/en/guide/serialization.html#crc_extra). known is false for an id
// that is not in the table; the table holds every message of gomavlib's "all" dialect.
// Safe for concurrent use.
func CRCExtra(id uint32) (extra byte, known bool) {
	const perPage = uint32(len(extraPages[0]))
	page := id / perPage
	if page >= uint32(len(extraPageOf)) {
		return 0, false
	}
	e := extraPages[extraPageOf[page]][id%perPage]
	return byte(e), e != 0
}
