package vehicle

import (
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"
)

// utc is what the vehicle takes for UTC, jumps included.
func (v *Vehicle) utc() time.Time {
	t := v.opt.Start.Add(v.now)
	for _, j := range v.opt.Jumps {
		if v.now >= j.At {
			t = t.Add(j.By)
		}
	}
	return t
}

// knowsTime tells that the vehicle has got UTC from its receiver.
func (v *Vehicle) knowsTime() bool { return v.now >= max(v.plan.gpsAt, v.opt.TimeLate) }

func systemTime(v *Vehicle) message.Message {
	m := &common.MessageSystemTime{TimeBootMs: v.ms()}
	switch {
	case v.knowsTime():
		m.TimeUnixUsec = uint64(v.utc().UnixMicro())
	case v.opt.Clock1970:
		m.TimeUnixUsec = v.us()
	}
	return m
}

// timesync asks whoever is there. ArduPilot adds its system id to the stamp, to tell its
// own requests by it; here it is left out.
func timesync(v *Vehicle) message.Message {
	return &common.MessageTimesync{Ts1: v.up().Nanoseconds()}
}

// hearTimesync answers a request with the nanoseconds since start, as both stacks do
// (https://mavlink.io/en/services/timesync.html): TC1 is 0 in a request, TS1 the asker's
// own and comes back untouched. An answer to our own request needs no more.
func (v *Vehicle) hearTimesync(from sender, m *common.MessageTimesync) {
	if m.Tc1 != 0 {
		return
	}
	v.later(&common.MessageTimesync{
		Tc1: v.up().Nanoseconds(), Ts1: m.Ts1, TargetSystem: from.system, TargetComponent: from.comp,
	})
}

// darkFor is how long a restarting autopilot says and hears nothing.
const darkFor = 1500 * time.Millisecond

func (v *Vehicle) rebooting() bool {
	return v.opt.RebootAt > 0 && v.now >= v.opt.RebootAt && v.now < v.opt.RebootAt+tick
}

// dark tells that the autopilot is starting again.
func (v *Vehicle) dark() bool {
	return v.opt.RebootAt > 0 && v.now >= v.opt.RebootAt && v.now < v.opt.RebootAt+darkFor
}

// reboot restarts the autopilot, as a watchdog does in the air: it flies on armed. Its
// clock and its counts of frames begin anew, and it remembers no rates, no transfers and
// nobody it streamed its log to. The log is a new one.
func (v *Vehicle) reboot() {
	v.bootAt = v.now
	for from := range v.seqs {
		if from == (sender{v.opt.System, autopilotID}) || from == (sender{v.opt.System, logID}) {
			delete(v.seqs, from)
		}
	}
	v.sent, v.eventNo = 0, 0
	v.paramsFrom = v.now + darkFor
	for i, fresh := range autopilotStreams(v.opt.Stack) {
		fresh.stagger(i)
		fresh.start += v.now + darkFor
		v.streams[i] = fresh
	}
	v.pull, v.files, v.blocks, v.ulog = pull{}, ftpServer{}, nil, nil
	v.arming.waiting = false
	v.logs.close()
	if v.pilot.armed() {
		v.openLog()
	}
}
