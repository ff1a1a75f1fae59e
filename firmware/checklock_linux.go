package firmware

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
	"holdfast/firmware/runfile"
)

// checkLock says what the guard says of the lock, and of each of its layers. It looks at no
// rule of the kernel itself: that takes the guard's powers.
func checkLock(cfg *config.Config) []CheckRow {
	if cfg.Bench() {
		return []CheckRow{{"lock", true, "bench mode: this process may use loopback only, the host is not locked, every record says so"}}
	}
	name := filepath.Join(cfg.Lock.Run, evidence.LockFile)
	const start = "start the guard: systemctl start holdfast-guard, or holdfastd lockdown"
	p, err := runfile.Read(name)
	if err != nil {
		return []CheckRow{{"lock", false, fmt.Sprintf("no guard says that the board is locked (%v); %s", plain(err), start)}}
	}
	l, err := evidence.ParseLock(p)
	if err != nil {
		return []CheckRow{{"lock", false, fmt.Sprintf("%s: %v; %s", name, err, start)}}
	}
	if age := sinceBoot()() - time.Duration(l.Usec)*time.Microsecond; l.Boot != bootID() || age > evidence.Stale {
		return []CheckRow{{"lock", false, "the guard has not said for " + age.Round(time.Second).String() + " that the board is locked; " + start}}
	}
	return lockRows(l)
}

func lockRows(l *evidence.Lock) []CheckRow {
	row := CheckRow{"lock", l.Lock == evidence.Locked, fmt.Sprintf("%s, grade %s, %d attempt(s) refused, %d layer(s) set right since the start",
		l.Lock, l.Grade, l.Refused, l.Strikes)}
	if l.Why != "" {
		row.Detail += ": " + l.Why
	}
	rows := []CheckRow{row}
	for _, y := range l.Layers {
		r := CheckRow{y.Name, y.State == "ok" || !y.Needed, strings.ReplaceAll(y.State, "_", " ")}
		if y.Detail != "" {
			r.Detail += ": " + y.Detail
		}
		if y.Needed && !r.OK {
			r.Detail += "; without it the board is not locked"
		}
		rows = append(rows, r)
	}
	return rows
}

// lockFlows are the ways out that a lock closes, and what the guard keeps and reads.
func lockFlows(cfg *config.Config) []DataFlow {
	if cfg.Bench() {
		return []DataFlow{{Direction: "out", What: "network", Where: "none", Form: "no code of this program sends; bench endpoints are loopback only; other programs of this host are not held back", Who: whoNobody}}
	}
	return []DataFlow{
		{Direction: "out", What: "network", Where: "none", Form: "every link is down and every frame dropped while the board is locked; no code of this program sends", Who: whoNobody},
		{Direction: "in", What: "maintenance ticket (signed by an operator)", Where: cfg.Lock.Ticket, Form: "text; opens the links that it names, for its span", Who: whoAll},
		{Direction: "in", What: "whose tickets are admitted (public)", Where: cfg.Lock.Signers, Form: "text", Who: whoAll},
		{Direction: "kept", What: "numbers of used tickets", Where: cfg.Lock.UsedNumbers, Form: "text, in clear; random numbers", Who: whoRoot},
		{Direction: "kept", What: "who tried to send, until it is sealed; state of the lock", Where: cfg.Lock.Run, Form: "in memory", Who: whoMemory},
	}
}

// recorderRuns tells whether the board's recorder has said so a moment ago.
func recorderRuns(cfg *config.Config) bool {
	if cfg.Bench() {
		return false
	}
	p, err := runfile.Read(filepath.Join(cfg.Lock.Run, evidence.RecorderFile))
	if err != nil {
		return false
	}
	r, err := evidence.ParseRecorder(p)
	age := sinceBoot()() - time.Duration(r.Usec)*time.Microsecond
	return err == nil && r.Boot == bootID() && age <= evidence.Stale
}
