package netlock

// Check looks at every layer once, as Run does each second.
func Check(l *Lock) { l.check() }
