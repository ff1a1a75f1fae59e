package aplog

import (
	"fmt"
	"time"

	ap "github.com/bluenviron/gomavlib/v3/pkg/dialects/ardupilotmega"
)

// eraser has the autopilot erase its logs, once all of them are safe. The order is what counts:
// every log of the list pulled whole; all of it sealed, read back and equal; the list once more,
// unchanged; then LOG_ERASE; then the list, to see that it happened.
type eraser struct {
	list  []entry        // the newest list
	safe  map[key]uint64 // the number behind that of the log's last block
	boot  int
	below uint64 // all blocks below this number have to be confirmed
	state eraseState
	until time.Duration
}

type eraseState int

const (
	eraseNone    eraseState = iota
	eraseConfirm            // waits for the medium
	eraseRelist             // confirmed; does the autopilot still have the same logs?
	eraseSend               // it has
	eraseWait               // it erases
	eraseLook               // is the list empty?
)

// How long a medium may take to be read back, and an autopilot to erase.
const (
	confirmLongest = 10 * time.Minute
	confirmPoll    = 500 * time.Millisecond
	eraseTakes     = 10 * time.Second
)

func (e *eraser) stop() { e.state = eraseNone }

// whole notes that a log was pulled whole, its checksum right where the autopilot has one.
func (e *eraser) whole(t *transfer) {
	if f := t.file(); f != nil && f.crc != crcRight && f.crc != crcAbsent {
		return
	}
	if e.safe == nil || e.boot != t.l.reboots {
		e.safe, e.boot = map[key]uint64{}, t.l.reboots // numbers may mean other logs now
	}
	if len(e.safe) < 2*maxEntries {
		e.safe[safeKey(t.e)] = t.out.last + 1
	}
}

// safeKey tells a log from the others of one start of the autopilot: the time that an ArduPilot says
// of an open log is a new one each time, so its number does.
func safeKey(e entry) key {
	if x := e.key(); x.numberless() {
		return x
	}
	return key{e.id, 0, uint32(e.size)}
}

// unsafe says why not every log of the list is known to be whole; "": all are.
func (e *eraser) unsafe(p *puller, logs []entry) string {
	if len(logs) == 0 {
		return "there is none"
	}
	e.below = 0
	for _, x := range logs {
		behind, ok := e.safe[safeKey(x)]
		if !ok || e.boot != p.l.reboots {
			return fmt.Sprintf("log %d was not pulled whole in this run", x.id)
		}
		e.below = max(e.below, behind)
	}
	return ""
}

// begin starts, when all was pulled; false: nothing is to be erased.
func (e *eraser) begin(p *puller, now time.Duration) bool {
	if !p.l.cfg.Erase || len(e.list) == 0 {
		return false
	}
	if why := e.unsafe(p, e.list); why != "" {
		return e.keep(p, why)
	}
	p.l.cfg.Store.Confirm()
	p.phase, e.state, e.until = phaseConfirm, eraseConfirm, now+confirmLongest
	return true
}

// keep says why nothing is erased.
func (e *eraser) keep(p *puller, why string) bool {
	e.state = eraseNone
	p.l.cfg.Event("logs_not_erased", fmt.Sprintf("why=%q", why))
	return false
}

func (e *eraser) step(p *puller, now time.Duration) time.Duration {
	switch e.state {
	case eraseConfirm:
		return e.confirm(p, now)
	case eraseSend:
		if !p.l.ask(&ap.MessageLogErase{TargetSystem: p.l.system, TargetComponent: compAutopilot}) {
			return now + outRetry
		}
		e.state, e.until = eraseWait, now+eraseTakes
		return e.until
	case eraseWait:
		if now < e.until {
			return e.until
		}
		e.state = eraseLook
		p.startList()
		return now
	}
	return p.done()
}

func (e *eraser) confirm(p *puller, now time.Duration) time.Duration {
	below, err := p.l.cfg.Store.Confirmed()
	switch {
	case err != nil:
		e.keep(p, "the sealed copy was not verified: "+err.Error())
	case below >= e.below:
		e.state = eraseRelist
		p.startList()
		return now
	case now < e.until:
		return now + confirmPoll
	default:
		e.keep(p, "the sealed copy was not verified in time")
	}
	return p.done()
}

// listed takes a list that this eraser asked for; false: it did not.
func (e *eraser) listed(p *puller, logs []entry, ok bool, now time.Duration) bool {
	switch e.state {
	case eraseRelist:
		below, err := p.l.cfg.Store.Confirmed()
		why := e.unsafe(p, logs)
		if ok && why == "" && err == nil && below >= e.below {
			p.phase, e.state = phaseErase, eraseSend
			return true
		}
		e.keep(p, "the list changed: "+why)
	case eraseLook:
		e.look(p, logs, ok)
	default:
		return false
	}
	p.done()
	return true
}

// look tells whether the logs are gone.
func (e *eraser) look(p *puller, logs []entry, ok bool) {
	e.state = eraseNone
	ok = ok || p.l.flavour == PX4 // it has no answer that says that there is none
	for _, x := range logs {
		if _, still := e.safe[safeKey(x)]; still {
			ok = false
		}
	}
	if !ok {
		e.keep(p, "the autopilot did not erase them")
		return
	}
	p.l.cfg.Event("logs_erased", fmt.Sprintf("logs=%d", len(e.list)))
	e.safe, e.list = nil, nil
}
