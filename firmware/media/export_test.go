package media

import "time"

// Quick shortens the waits.
func (m *Media) Quick(silent, hung, kill, back time.Duration) {
	m.times.silent, m.times.hung, m.times.kill, m.times.backFirst, m.times.backMost = silent, hung, kill, back, back
	m.times.killLast = kill
	m.times.greet = 10 * time.Millisecond
	m.times.kept, m.times.rescan, m.times.quiet = time.Second, 50*time.Millisecond, 300*time.Millisecond
}

// SoundIn returns what a look at p, in pieces of n bytes, finds; empty: no sound. unknown tells that
// more would be needed.
func SoundIn(p []byte, n int) (what string, unknown bool) {
	var s soundCheck
	v := soundUnknown
	for len(p) > 0 {
		k := min(n, len(p))
		if v = s.look(p[:k]); v == soundRefused {
			return s.what, false
		}
		p = p[k:]
	}
	return "", v == soundUnknown
}

// JPEGs returns the JPEGs in p, looked at in pieces of n bytes.
func JPEGs(p []byte, n int) (list [][]byte) {
	var s jpegScan
	var cur []byte
	for len(p) > 0 {
		part := p[:min(n, len(p))]
		p = p[len(part):]
		for len(part) > 0 {
			k, edge := s.step(part)
			if cur != nil {
				cur = append(cur, part[:k]...)
			}
			part = part[k:]
			switch edge {
			case jpegOn:
				cur = []byte{0xFF, mSOI}
			case jpegOver:
				list, cur = append(list, cur), nil
			case jpegBad:
				cur = nil
			}
		}
	}
	return list
}

// Waiting returns the bytes that wait for the recorder.
func (m *Media) Waiting() int { return m.queue.waiting() }

// OpenVideo has cameras opened as dev, until the function that it returns is called.
func OpenVideo(dev videoDevice) (restore func()) {
	was := openVideo
	openVideo = func(string) (videoDevice, error) { return dev, nil }
	return func() { openVideo = was }
}
