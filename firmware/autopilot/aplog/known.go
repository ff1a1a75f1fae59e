package aplog

// key is what tells a log apart from others, as LOG_ENTRY describes it.
type key struct {
	id   uint16
	utc  uint32
	size uint32
}

// numberless says that x is a log by time and size alone (see entry.key).
func (x key) numberless() bool { return x.id == 0 && x.utc != 0 }

// known are the logs that were pulled, or that somebody else has. An ArduPilot that still has a
// log open says a new time with each list, so within one start of the autopilot, where numbers do
// not move, a log is known by its number and size.
type known struct {
	at    map[key]int // the start of the autopilot (see Logs.reboots) in which it was pulled
	order []key
}

func (k *known) add(x key, boot int) {
	if k.at == nil {
		k.at = map[key]int{}
	}
	k.set(x, boot)
	if boot >= 0 && !x.numberless() {
		k.set(key{x.id, 0, x.size}, boot)
	}
	for len(k.at) > maxKnown {
		delete(k.at, k.order[0])
		k.order = k.order[1:]
	}
}

func (k *known) set(x key, boot int) {
	if _, had := k.at[x]; !had {
		k.order = append(k.order, x)
	}
	k.at[x] = boot
}

func (k *known) has(x key, boot int) bool {
	if _, ok := k.at[x]; ok && x.utc != 0 {
		return true
	}
	if x.numberless() {
		return false
	}
	at, ok := k.at[key{x.id, 0, x.size}]
	return ok && at == boot
}

// knownBefore tells whether an earlier run of the program has a log.
func (p *puller) knownBefore(x key) bool {
	return x.utc != 0 && p.l.cfg.Known != nil && p.l.cfg.Known(x.id, x.utc, x.size)
}
