package firmware

import (
	"holdfast/firmware/config"
	"holdfast/firmware/evidence"
	"holdfast/firmware/recorder"
	"holdfast/firmware/rundir"
)

// runFolder is where the recorder meets the guard. On a bench there is none, and nobody looks.
func runFolder(cfg *config.Config, device string) recorder.Guard {
	if cfg.Bench() {
		return nil
	}
	return rundir.New(rundir.Config{Path: cfg.Lock.Run, Boot: bootID(), Device: device, Now: sinceBoot()})
}

// lockAtStart is the state of the network lock that a start of the recorder says.
func lockAtStart(cfg *config.Config) (lock, grade string) {
	if cfg.Bench() {
		return evidence.Bench, evidence.None
	}
	l := runFolder(cfg, "").Lock()
	return l.Lock, l.Grade
}
