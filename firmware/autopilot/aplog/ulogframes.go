package aplog

import "encoding/binary"

// ulogFrames finds where the messages of a ULog end.
type ulogFrames struct {
	left int
	head [2]byte
	have int
}

// advance walks over p and returns how many of its bytes end whole messages; -1: none ends in p.
func (f *ulogFrames) advance(p []byte) int {
	at, end := 0, -1
	for at < len(p) {
		if f.left == 0 {
			f.head[f.have] = p[at]
			at++
			if f.have++; f.have == 2 {
				f.have, f.left = 0, int(binary.LittleEndian.Uint16(f.head[:]))+1
			}
			continue
		}
		n := min(f.left, len(p)-at)
		at += n
		if f.left -= n; f.left == 0 {
			end = at
		}
	}
	return end
}
