package mavlink

import "encoding/binary"

// checksumInit is the start value of the X.25 checksum.
const checksumInit = 0xFFFF

// slicing[k][b] is the checksum step for byte b followed by k zero bytes.
var slicing = makeSlicing()

func makeSlicing() *[8][256]uint16 {
	const polynomial = 0x8408 // x^16 + x^12 + x^5 + 1, bits reversed
	t := new([8][256]uint16)
	for b := range t[0] {
		crc := uint16(b)
		for range 8 {
			crc = crc>>1 ^ crc&1*polynomial
		}
		t[0][b] = crc
	}
	for k := 1; k < len(t); k++ {
		for b, crc := range t[k-1] {
			t[k][b] = crc>>8 ^ t[0][byte(crc)]
		}
	}
	return t
}

// Checksum returns the X.25 checksum of p as MAVLink uses it: CRC-16/MCRF4XX, polynomial
// 0x1021, bits reversed, start value 0xFFFF, no final inversion
// (https://mavlink.io/en/guide/serialization.html#checksum). It takes eight bytes a step.
// Safe for concurrent use.
func Checksum(p []byte) uint16 {
	return update(checksumInit, p)
}

func update(crc uint16, p []byte) uint16 {
	t := slicing
	for len(p) >= 8 {
		v := binary.LittleEndian.Uint64(p) ^ uint64(crc)
		crc = t[7][byte(v)] ^ t[6][byte(v>>8)] ^ t[5][byte(v>>16)] ^ t[4][byte(v>>24)] ^
			t[3][byte(v>>32)] ^ t[2][byte(v>>40)] ^ t[1][byte(v>>48)] ^ t[0][byte(v>>56)]
		p = p[8:]
	}
	if len(p) >= 4 {
		v := binary.LittleEndian.Uint32(p) ^ uint32(crc)
		crc = t[3][byte(v)] ^ t[2][byte(v>>8)] ^ t[1][byte(v>>16)] ^ t[0][byte(v>>24)]
		p = p[4:]
	}
	for _, b := range p {
		crc = crc>>8 ^ t[0][byte(crc)^b]
	}
	return crc
}

// sound reports whether the checksum of a whole span is right with this CRC_EXTRA.
func sound(raw []byte, extra byte) bool {
	end := headerSizeV1 + int(raw[1])
	if raw[0] == startV2 {
		end = headerSizeV2 + int(raw[1])
	}
	crc := update(checksumInit, raw[1:end])
	crc = crc>>8 ^ slicing[0][byte(crc)^extra]
	return crc == binary.LittleEndian.Uint16(raw[end:])
}
