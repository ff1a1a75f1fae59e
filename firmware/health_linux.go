package firmware

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/autopilot"
	"holdfast/firmware/autopilot/allow"
	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
	"holdfast/storage/vault"
)

// Files of the kernel that tell how the board is; the confined recorder may read these.
const (
	procStat    = "/proc/stat"
	procMeminfo = "/proc/meminfo"
	thermalZone = "/sys/class/thermal/thermal_zone0/temp"
)

// healthFiles is what a recorder that talks reads beside its own files.
var healthFiles = []string{procStat, procMeminfo, thermalZone}

const (
	// lowSpace is how many reserves are left when space is called low.
	lowSpace = 4
	// linkQuiet is after how long without a byte a link is told to be silent: as the recorder.
	recentLoss = 10 * time.Second
)

// healthMeter remembers what rates are counted from. Safe for concurrent use.
type healthMeter struct {
	log *slog.Logger

	mu       sync.Mutex
	at       time.Duration
	rx, tx   int64
	rxs, txs int64
	busy     []cpuTimes
	cpu      []uint8
	size     int64
	drops    int64
	lostAt   time.Duration
}

type cpuTimes struct{ busy, all uint64 }

// read is how the board is, as package autopilot tells the autopilot.
func (t *talk) read() autopilot.Health {
	s := t.r.Snapshot()
	now := sinceBoot()()
	h := autopilot.Health{
		Lock:  s.Lock == evidence.Locked || s.Lock == evidence.Bench,
		Vault: s.State != "fault" && s.State != "starting" && !s.Sealed,
		Keys:  true, // without a recipient no recorder starts
		Link:  linksUp(s.LinkUp), Armed: s.Armed,
		FreeBytes: s.Free, TotalBytes: t.health.total(t.cfg.Vault.Path), Uptime: now,
	}
	t.health.measure(now, s.Bytes, s.Sent, s.Drops)
	t.health.fill(&h, now)
	if h.Lock && t.cfg.Bench() {
		h.Lock = true
	}
	h.Faults = t.faults(s.Free, s.Full, s.Sealed, now)
	return h
}

func linksUp(up []bool) bool {
	for _, u := range up {
		if !u {
			return false
		}
	}
	return len(up) > 0
}

// faults lists what is not well beside lock, vault, keys and link.
func (t *talk) faults(free int64, full, sealed bool, now time.Duration) (list []autopilot.FaultState) {
	reserve := t.cfg.Vault.Reserve + vault.MinFree
	switch {
	case free > 0 && free < reserve || full:
		list = append(list, autopilot.FaultState{Fault: allow.FaultFull})
	case free > 0 && free < lowSpace*reserve:
		list = append(list, autopilot.FaultState{Fault: allow.FaultLow, Number: int(free >> 20)})
	}
	if t.health.lostLately(now) {
		list = append(list, autopilot.FaultState{Fault: allow.FaultLost})
	}
	if sealed && t.battery != nil && t.battery.acted {
		list = append(list, autopilot.FaultState{Fault: allow.FaultBattery})
	}
	for i, c := range t.r.MediaStatus() {
		if c.LastError != "" {
			list = append(list, autopilot.FaultState{Fault: allow.FaultCamera, Number: i + 1})
			break
		}
	}
	return list
}

// measure takes counts that grow, about once a second, and turns them into rates.
func (m *healthMeter) measure(now time.Duration, rx, tx, drops int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if drops > m.drops {
		m.drops, m.lostAt = drops, now
	}
	d := now - m.at
	if m.at > 0 && d < time.Second {
		return
	}
	if m.at > 0 {
		m.rxs, m.txs = rate(rx-m.rx, d), rate(tx-m.tx, d)
	}
	m.at, m.rx, m.tx = now, rx, tx
	if data, err := os.ReadFile(procStat); err == nil {
		m.cpu, m.busy = cpuLoad(m.busy, data)
	}
}

func rate(n int64, d time.Duration) int64 { return int64(float64(n) / d.Seconds()) }

func (m *healthMeter) lostLately(now time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lostAt > 0 && now-m.lostAt < recentLoss
}

func (m *healthMeter) fill(h *autopilot.Health, now time.Duration) {
	m.mu.Lock()
	h.LinkRx, h.LinkTx, h.CPU = m.rxs, m.txs, m.cpu
	m.mu.Unlock()
	if data, err := os.ReadFile(procMeminfo); err == nil {
		total, available := memInfo(data)
		h.RAMBytes, h.RAMUsed = total, total-available
	}
	if data, err := os.ReadFile(thermalZone); err == nil {
		if milli, err := strconv.Atoi(string(bytes.TrimSpace(data))); err == nil && milli > -100_000 && milli < 127_000 {
			h.Temperature, h.HasTemperature = int8(milli/1000), true
		}
	}
}

// total is the size of the medium that a path lies on; 0: not known. It is asked once.
func (m *healthMeter) total(path string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s unix.Statfs_t
	if m.size == 0 && unix.Statfs(path, &s) == nil {
		m.size = int64(s.Blocks) * int64(s.Bsize)
	}
	return m.size
}

// cpuLoad reads the cores' lines of /proc/stat (proc_stat(5)): percent since the last time.
func cpuLoad(before []cpuTimes, data []byte) (percent []uint8, now []cpuTimes) {
	const idleField, waitField = 4, 5
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) <= waitField || !bytes.HasPrefix(f[0], []byte("cpu")) || len(f[0]) == 3 {
			continue
		}
		var t cpuTimes
		for i, v := range f[1:] {
			n, err := strconv.ParseUint(string(v), 10, 64)
			if err != nil {
				break
			}
			t.all += n
			if i+1 != idleField && i+1 != waitField {
				t.busy += n
			}
		}
		if i := len(now); i < len(before) && t.all > before[i].all && t.busy >= before[i].busy {
			percent = append(percent, uint8(min(100, 100*(t.busy-before[i].busy)/(t.all-before[i].all))))
		}
		now = append(now, t)
	}
	return percent, now
}

// memInfo reads /proc/meminfo (proc_meminfo(5)), in bytes.
func memInfo(data []byte) (total, available int64) {
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(string(f[1]), 10, 53)
		if err != nil {
			continue
		}
		switch string(f[0]) {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	return total, available
}

// PowerOffFile is what a recorder writes when all is sealed and the battery is low. It lies in the
// recorder's own folder of the run folder; holdfast-poweroff.path waits for it.
const PowerOffFile = "recorder/poweroff"

// askPowerOff asks the service manager to switch the power off. On the bench nobody is asked.
func askPowerOff(cfg *config.Config, log *slog.Logger) {
	if cfg.Bench() {
		return
	}
	name := filepath.Join(cfg.Lock.Run, PowerOffFile)
	if _, err := os.Stat(name); err == nil {
		return
	}
	if err := os.WriteFile(name, []byte("low battery, all is sealed\n"), 0o644); err != nil && log != nil {
		log.Error("ask for power off", slog.Any("err", err))
	}
}
