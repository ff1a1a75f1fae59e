package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/crypto/custody"
	"holdfast/storage/vault"
)

// subject is a vault to attack: the device's folder, what is known of it, and earlier states.
type subject struct {
	board  *board
	files  tree
	leaves []custody.Leaf
	before []tree // the whole folder as it stood at earlier stops, oldest first
	base   *custody.Report
	// unended: the newest record was cut, and no start has named what is there of it.
	unended bool
}

// open reads the folder as it stands.
func (s *subject) open() (err error) {
	if s.files, err = s.board.files(); err != nil {
		return err
	}
	s.leaves, err = parseLeaves(s.files[logFile])
	return err
}

// keep remembers the folder as it stands.
func (s *subject) keep() error {
	t, err := s.board.files()
	s.before = append(s.before, t)
	return err
}

// device is the name of the folder.
func (s *subject) device() string { return s.board.device.ID() }

// newestSlot tells which slot holds the checkpoint with more leaves.
func (s *subject) newestSlot() (int, error) {
	var at [2]*custody.Checkpoint
	for i, name := range slotFiles {
		c, err := custody.ParseCheckpoint(s.files[name])
		if err != nil {
			return 0, fmt.Errorf("%w: %s: %w", errDay, name, err)
		}
		at[i] = c
	}
	if at[0].Size > at[1].Size || at[0].Size == at[1].Size && at[0].T > at[1].T {
		return 0, nil
	}
	return 1, nil
}

// steps runs the steps until one fails.
func steps(todo ...func() error) error {
	for i, do := range todo {
		if err := do(); err != nil {
			return fmt.Errorf("%w, step %d: %w", errDay, i, err)
		}
	}
	return nil
}

// recordDay makes the vault that most attacks are made on. In four starts of the recorder it
// holds flights and ground records with telemetry and audit, ends of epochs, a maintenance, a record
// that was cut, a segment whose file failed, records with a key group and video in it, and a record
// that was deleted to make room; it is closed in good order.
func recordDay(dir string, seed uint64) (*subject, error) {
	b, err := newBoard(dir, seed)
	if err != nil {
		return nil, err
	}
	s := &subject{board: b}
	start := func() error { return b.start("stop") }
	ground := func(n int) func() error { return func() error { return b.record(vault.Ground, seconds(n)) } }
	flight := func(n int) func() error { return func() error { return b.record(vault.Flight, seconds(n)) } }
	fail := func() error { b.disk.failSync = ".open.age"; return nil }
	cut := func() error { b.cut(); return nil }
	full := func() error { b.disk.full = true; return b.start("oldest") }
	err = steps(
		start, ground(12), flight(75), b.maintain, ground(3), b.stop, s.keep, // records 1 to 3
		start, flight(15), cut, s.keep, // 4
		b.share, start, flight(6), fail, flight(70), b.film, ground(3), flight(12), b.film, b.stop, s.keep, // 5 to 7
		full, b.room, ground(12), b.stop, // 8; 1 goes
		s.open)
	return s, err
}

// room asks for room, as the recorder does once a second.
func (b *board) room() error { return b.v.Room() }

// recordCut makes a vault whose newest record was cut and not recovered yet.
func recordCut(dir string, seed uint64) (*subject, error) {
	b, err := newBoard(dir, seed)
	if err != nil {
		return nil, err
	}
	s := &subject{board: b, unended: true}
	start := func() error { return b.start("stop") }
	ground := func() error { return b.record(vault.Ground, seconds(3)) }
	flight := func() error { return b.record(vault.Flight, seconds(25)) }
	cut := func() error { b.cut(); return nil }
	return s, steps(start, ground, flight, b.stop, s.keep, start, ground, flight, cut, s.open)
}

// subjects are the vaults of an audit: two states of boards, and a board of somebody else.
type subjects struct{ day, cut, other *subject }

// recordSubjects records below dir, which must be there.
func recordSubjects(dir string, seed uint64) (*subjects, error) {
	root := filepath.Join(dir, "vaults")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	var all subjects
	var errs [3]error
	all.day, errs[0] = recordDay(filepath.Join(root, "day"), seed)
	all.cut, errs[1] = recordCut(filepath.Join(root, "cut"), seed+1)
	all.other, errs[2] = recordCut(filepath.Join(root, "other"), seed+2)
	return &all, errors.Join(errs[:]...)
}
