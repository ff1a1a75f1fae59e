package autopilot

import (
	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
)

type sender Part

func (s *sender) Send(comp uint8, m message.Message) bool { return (*Part)(s).send(comp, m) }

func (s *sender) Autopilot() (Autopilot, bool) {
	p := (*Part)(s)
	return Autopilot{Link: p.pilot.link, System: p.pilot.system, Flavour: p.pilot.flavour, Armed: !p.pilot.mayAsk()}, p.pilot.found
}

// send encodes m, asks the list and hands it on. A sequence number is used up only by what went
// out, so that a gap means a frame that was lost on the way.
func (p *Part) send(comp uint8, m message.Message) bool {
	if !p.pilot.found {
		return false
	}
	raw, err := p.codec.Encode(p.pilot.system, comp, p.seq[comp], m)
	if err == nil {
		err = p.list.Check(raw, !p.pilot.mayAsk())
	}
	if err != nil {
		p.stats.Refused++
		p.log.Warn("not sent to the autopilot", "why", err)
		return false
	}
	if !p.cfg.Out.Send(p.pilot.link, raw) {
		p.stats.Failed++
		return false
	}
	p.seq[comp]++
	p.stats.Sent++
	return true
}

// tell sends as the onboard computer.
func (p *Part) tell(m message.Message) bool { return p.send(allow.ComponentComputer, m) }

// command sends a command to the autopilot.
func (p *Part) command(cmd common.MAV_CMD, try int, param1, param2 float32) bool {
	return p.tell(&common.MessageCommandLong{TargetSystem: p.pilot.system, TargetComponent: allow.ComponentAutopilot,
		Command: cmd, Confirmation: uint8(min(max(try, 0), 10)), Param1: param1, Param2: param2})
}

// ack answers a command.
func (p *Part) ack(e *entry, cmd common.MAV_CMD, result common.MAV_RESULT, param2 int32) bool {
	return p.tell(&common.MessageCommandAck{Command: cmd, Result: result, ResultParam2: param2,
		TargetSystem: uint8(e.frame.System), TargetComponent: uint8(e.frame.Component)})
}

// forUs tells whether a command is addressed to the onboard computer.
func (p *Part) forUs(system, component uint8) bool {
	return system == p.pilot.system && component == allow.ComponentComputer
}
