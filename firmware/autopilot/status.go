package autopilot

import (
	"math"
	"time"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
	"github.com/bluenviron/gomavlib/v3/pkg/message"

	"holdfast/firmware/autopilot/allow"
)

// nothing is a piece that does nothing; pieces embed it for what they do not care about.
type nothing struct{}

func (nothing) handle(message.Message, *entry) {}
func (nothing) armed(bool)                     {}
func (nothing) rebooted()                      {}

// every paces what is sent at an interval: after a pause it goes on, it does not catch up.
func every(next *time.Duration, now, interval time.Duration) bool {
	if now < *next {
		return false
	}
	*next += interval
	if *next <= now {
		*next = now + interval
	}
	return true
}

// beat sends the heartbeats, 1 a second
// (https://mavlink.io/en/services/heartbeat.html).
type beat struct {
	nothing
	p    *Part
	next time.Duration
}

const beatEvery = time.Second

func (b *beat) step(now time.Duration) time.Duration {
	if b.p.pilot.found && every(&b.next, now, beatEvery) {
		b.send(allow.ComponentComputer, common.MAV_TYPE_ONBOARD_CONTROLLER, b.p.bits())
		if b.p.cfg.LogBeats {
			b.send(allow.ComponentLog, common.MAV_TYPE_LOG, 0)
		}
	}
	return max(b.next, now+time.Millisecond)
}

func (b *beat) send(comp uint8, kind common.MAV_TYPE, bits uint32) {
	state := common.MAV_STATE_ACTIVE
	if b.p.well.cause != 0 {
		state = common.MAV_STATE_CRITICAL
	}
	b.p.send(comp, &common.MessageHeartbeat{Type: kind, Autopilot: common.MAV_AUTOPILOT_INVALID,
		CustomMode: bits, SystemStatus: state, MavlinkVersion: 3})
}

// computer sends ONBOARD_COMPUTER_STATUS. The definition names no units for memory, storage and
// link rates but in its XML: MiB and KiB/s
// (https://mavlink.io/en/messages/common.html#ONBOARD_COMPUTER_STATUS).
type computer struct {
	nothing
	p    *Part
	next time.Duration
}

const computerEvery = 2 * time.Second

func (c *computer) step(now time.Duration) time.Duration {
	if c.p.pilot.found && every(&c.next, now, computerEvery) {
		c.p.tell(c.message(now))
	}
	return max(c.next, now+time.Millisecond)
}

func (c *computer) message(now time.Duration) *common.MessageOnboardComputerStatus {
	h := &c.p.health
	m := allow.NewComputerStatus()
	m.TimeUsec = uint64(now.Microseconds())
	m.Uptime = uint32(min(h.Uptime.Milliseconds(), math.MaxUint32))
	copy(m.CpuCores[:], h.CPU)
	if h.HasTemperature {
		m.TemperatureBoard = h.Temperature
	}
	if h.RAMBytes > 0 {
		m.RamUsage, m.RamTotal = mib(h.RAMUsed), mib(h.RAMBytes)
	}
	if h.TotalBytes > 0 {
		m.StorageUsage[0], m.StorageTotal[0] = mib(h.TotalBytes-h.FreeBytes), mib(h.TotalBytes)
	}
	m.LinkType[0], m.LinkRxRate[0], m.LinkTxRate[0] = 0, kib(h.LinkRx), kib(h.LinkTx)
	if _, full := h.fault(allow.FaultFull); full {
		m.StatusFlags = common.COMPUTER_STATUS_FLAGS_DISK_FULL
	}
	return m
}

func mib(bytes int64) uint32 { return uint32(max(0, min(bytes>>20, math.MaxUint32-1))) }
func kib(bytes int64) uint32 { return uint32(max(0, min(bytes>>10, math.MaxUint32-1))) }

// storage sends STORAGE_INFORMATION, which counts in MiB
// (https://mavlink.io/en/messages/common.html#STORAGE_INFORMATION).
type storage struct {
	nothing
	p     *Part
	next  time.Duration
	soon  time.Duration // the earliest time for the next one that nobody asked for
	said  common.STORAGE_STATUS
	free  int64
	asked bool
}

const (
	storageEvery  = 10 * time.Second
	storageSoon   = time.Second
	storageChange = 64 << 20 // bytes
	storageID     = 261      // message id of STORAGE_INFORMATION
)

// handle answers a request for the storage, from the autopilot or from the ground.
func (s *storage) handle(m message.Message, e *entry) {
	c, ok := m.(*common.MessageCommandLong)
	if !ok || !s.p.forUs(c.TargetSystem, c.TargetComponent) {
		return
	}
	switch c.Command {
	case common.MAV_CMD_REQUEST_STORAGE_INFORMATION:
	case common.MAV_CMD_REQUEST_MESSAGE:
		if c.Param1 != storageID {
			s.p.ack(e, c.Command, common.MAV_RESULT_UNSUPPORTED, 0)
			return
		}
	default:
		return
	}
	s.p.ack(e, c.Command, common.MAV_RESULT_ACCEPTED, 0)
	s.asked = true
}

func (s *storage) step(now time.Duration) time.Duration {
	if !s.p.pilot.found {
		return now + idle
	}
	h := &s.p.health
	status := storageStatus(h)
	changed := status != s.said || max(h.FreeBytes-s.free, s.free-h.FreeBytes) >= storageChange
	if now < s.next && !s.asked && !(changed && now >= s.soon) {
		return max(min(s.next, now+idle), now+time.Millisecond)
	}
	s.asked, s.next, s.soon = false, now+storageEvery, now+storageSoon
	s.said, s.free = status, h.FreeBytes
	s.p.tell(&common.MessageStorageInformation{
		TimeBootMs: uint32(now.Milliseconds()), StorageId: 1, StorageCount: 1, Status: status,
		TotalCapacity: float32(h.TotalBytes) / (1 << 20), UsedCapacity: float32(h.TotalBytes-h.FreeBytes) / (1 << 20),
		AvailableCapacity: float32(h.FreeBytes) / (1 << 20), Type: common.STORAGE_TYPE_OTHER, Name: "Holdfast"})
	return now + idle
}

func storageStatus(h *Health) common.STORAGE_STATUS {
	if !h.Vault || h.TotalBytes <= 0 {
		return common.STORAGE_STATUS_NOT_SUPPORTED
	}
	return common.STORAGE_STATUS_READY
}

// newTexts returns the piece that tells of faults.
func newTexts(p *Part) *faultTexts {
	return &faultTexts{p: p, told: map[allow.Fault]bool{}, said: map[string]time.Duration{}}
}

// faultTexts sends STATUSTEXT when a fault appears or is over.
type faultTexts struct {
	nothing
	p    *Part
	told map[allow.Fault]bool // as the pilot was told last
	said map[string]time.Duration
	next time.Duration
	// urgent goes out before anything else: why arming is denied.
	urgent string
}

const (
	textEvery = 2 * time.Second
	textAgain = 30 * time.Second // until the same text goes out again
)

// rebooted tells everything again: what was said before is on no screen any more.
func (t *faultTexts) rebooted() { clear(t.told); clear(t.said) }

func (t *faultTexts) step(now time.Duration) time.Duration {
	if !t.p.pilot.found || now < t.next {
		return max(min(t.next, now+idle), now+time.Millisecond)
	}
	if t.urgent != "" {
		t.send(now, common.MAV_SEVERITY_CRITICAL, t.urgent)
		t.urgent = ""
		return now + idle
	}
	for _, f := range allow.Faults() {
		number, is := t.p.health.fault(f)
		if is == t.told[f] {
			continue
		}
		severity := common.MAV_SEVERITY_WARNING
		switch {
		case !is:
			severity = common.MAV_SEVERITY_NOTICE
		case vetoes(f) || f == allow.FaultFull || f == allow.FaultLost:
			severity = common.MAV_SEVERITY_CRITICAL
		}
		if t.say(now, severity, f.Text(!is, number), f.Text(!is, 0)) {
			t.told[f] = is
			break
		}
	}
	return now + idle
}

// say sends a text that was not sent lately. kind is the same for texts that differ in their
// number alone.
func (t *faultTexts) say(now time.Duration, severity common.MAV_SEVERITY, text, kind string) bool {
	if last, ok := t.said[kind]; ok && now-last < textAgain {
		return false
	}
	if !t.send(now, severity, text) {
		return false
	}
	t.said[kind] = now
	return true
}

func (t *faultTexts) send(now time.Duration, severity common.MAV_SEVERITY, text string) bool {
	if !t.p.tell(&common.MessageStatustext{Severity: severity, Text: text}) {
		return false
	}
	t.next = now + textEvery
	return true
}
