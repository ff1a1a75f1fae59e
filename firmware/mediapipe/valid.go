package mediapipe

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

func (m *Hello) valid() bool {
	return Word(m.Process, 64) && len(m.Cameras) <= MaxOpen && (m.Nonce == "" || Word(m.Nonce, 64)) && !slices.ContainsFunc(m.Cameras, func(c string) bool { return !Word(c, 64) })
}

func (m *Begin) valid() bool {
	photo := m.Kind == Photo
	return m.File > 0 && Word(m.Camera, 64) && (photo || m.Kind == Video) && Word(m.Format, 8) && text(m.Name) &&
		usec(m.BeganUsec) && size(m.Size) && size(m.Offset) && (m.Trigger == "" || photo && Word(m.Trigger, 16)) &&
		m.Index >= -1 && m.Index <= MaxCount && usec(m.TakenUsec) && usec(m.UncertaintyUsec)
}

func (m *Data) valid() bool {
	return m.File > 0 && size(m.Offset) && usec(m.BootUsec) && len(m.Bytes) > 0 && len(m.Bytes) <= MaxData
}

func (m *Lost) valid() bool { return m.File > 0 && m.Bytes > 0 && size(m.Bytes) && text(m.Why) }

func (m *End) valid() bool {
	return m.File > 0 && size(m.Size) && usec(m.BootUsec) && text(m.Why) && (m.SHA256 == "" || hex(m.SHA256))
}

func (m *Event) valid() bool {
	return usec(m.BootUsec) && Word(m.Camera, 64) && Word(m.Kind, 64) && text(m.Detail)
}

func (m *State) valid() bool        { return true }
func (m *VideoCommand) valid() bool { return Word(m.Camera, 64) }

func (m *Shoot) valid() bool {
	return Word(m.Camera, 64) && m.IntervalMs >= 0 && usec(m.IntervalMs) && m.Count >= 0 && m.Count <= MaxCount && m.First >= 0 && m.First <= MaxCount
}

func (m *StopShooting) valid() bool { return Word(m.Camera, 64) }
func (m *Kept) valid() bool         { return m.File > 0 && text(m.Why) }
func (m *Announce) valid() bool     { return Word(m.Nonce, 64) }

func usec(n int64) bool { return n >= 0 && n <= maxUsec }
func size(n int64) bool { return n >= 0 && n <= maxBytes }

// Word tells whether s is a name of 1 to most of [a-z0-9_-].
func Word(s string, most int) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= most
}

func hex(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'f') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(s) == 64
}

func text(s string) bool { return len(s) <= MaxText && s == Text(s) }

// Text makes of any bytes a text that a message may hold: what cannot be printed becomes "?", and
// what is too long is cut.
func Text(s string) string {
	out := make([]rune, 0, min(len(s), MaxText))
	n := 0
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		if n += utf8.RuneLen(r); n > MaxText {
			break
		}
		out = append(out, r)
	}
	return string(out)
}
