package autopilot

import (
	"holdfast/firmware/autopilot/allow"
)

// wellness is what the board's health means for the autopilot.
type wellness struct {
	faults   []FaultState // the gravest first, each once
	cause    allow.Fault  // why arming would be denied; 0: for nothing
	override string       // why the operator lifts the veto
	lifted   bool
}

// look reads the health, unless it was read a moment ago.
func (p *Part) look(now bool) {
	if !now && p.looked != 0 && p.now-p.looked < lookEvery {
		return
	}
	p.looked = max(p.now, 1)
	p.health = p.cfg.Health()
	p.judge()
}

// judge says what the health means.
func (p *Part) judge() {
	w := wellness{faults: p.well.faults[:0]}
	h := &p.health
	for _, f := range allow.Faults() {
		if n, is := h.fault(f); is {
			w.faults = append(w.faults, FaultState{f, n})
		}
	}
	for _, f := range w.faults {
		if vetoes(f.Fault) {
			w.cause = f.Fault
			break
		}
	}
	if p.cfg.VetoOn && p.cfg.Override != nil {
		w.override, w.lifted = p.cfg.Override()
	}
	p.well = w
}

// vetoes tells whether arming is denied for f: lock, vault, keys and link alone.
func vetoes(f allow.Fault) bool {
	return f == allow.FaultLock || f == allow.FaultVault || f == allow.FaultKeys || f == allow.FaultLink
}

// fault tells whether f is there, and its number.
func (h *Health) fault(f allow.Fault) (number int, is bool) {
	for _, s := range h.Faults {
		if s.Fault == f {
			return s.Number, true
		}
	}
	switch f {
	case allow.FaultLock:
		return 0, !h.Lock
	case allow.FaultVault:
		return 0, !h.Vault
	case allow.FaultKeys:
		return 0, !h.Keys
	case allow.FaultLink:
		return 0, !h.Link
	}
	return 0, false
}

// objects tells whether the board speaks against arming now.
func (p *Part) objects() bool {
	return p.cfg.VetoOn && p.well.cause != 0 && !p.well.lifted
}

// bits are custom_mode of component 191.
func (p *Part) bits() uint32 {
	var bits uint32
	if !p.objects() {
		bits = allow.BitNoObjection
	}
	for _, f := range p.well.faults {
		bits |= f.Fault.Bit()
	}
	return bits
}
