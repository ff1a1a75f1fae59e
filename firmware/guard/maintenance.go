package guard

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"holdfast/crypto/custody"
	"holdfast/firmware/evidence"
	"holdfast/firmware/runfile"
)

const (
	// stopWait is how long the recorder may take to stop after it was asked.
	stopWait = 30 * time.Second
	// silence is how long an opening outlasts a recorder that does not say that it stopped.
	silence = 5 * time.Second
)

// Admit decides on a ticket: custody.Gate's Admit with its action, for a device and its boot.
type Admit func(msg []byte, device string, boot int64, now time.Duration) (*custody.Statement, error)

// Tickets is where tickets come from and who decides on them.
type Tickets struct {
	File  string // looked at twice a second; may be absent
	Admit Admit
}

// maintenance is the state of a ticket: none, asked (the recorder is to stop), open.
type maintenance struct {
	cfg     *Config
	ticket  *evidence.Maintenance
	since   time.Duration // of the phase
	ends    time.Duration
	heard   time.Duration     // when the recorder last said that it stopped
	refused [sha256.Size]byte // the ticket that was refused last, so that it is told once
	waits   string            // why a ticket is not looked at yet
}

func (m *maintenance) now() *evidence.Maintenance {
	if m.ticket == nil {
		return nil
	}
	t := *m.ticket
	return &t
}

// look moves on. It tells whether LockFile has to be written.
func (m *maintenance) look() (changed bool) {
	if m.ticket == nil {
		return m.take()
	}
	now := m.cfg.Now()
	if now >= m.ends {
		return m.end("its time is over")
	}
	if _, err := runfile.Read(m.cfg.Tickets.File); errors.Is(err, fs.ErrNotExist) {
		return m.end("the ticket was taken away")
	}
	r, err := m.recorder()
	stopped := err == nil && r.Stopped == m.ticket.Number && !r.Armed
	if stopped {
		m.heard = now
	}
	switch {
	case m.ticket.Phase == evidence.PhaseAsked && stopped:
		return m.open(now)
	case m.ticket.Phase == evidence.PhaseAsked && now-m.since > stopWait:
		return m.end("the recorder did not stop")
	case m.ticket.Phase == evidence.PhaseOpen && err == nil && r.Armed:
		return m.end("the vehicle was armed")
	case m.ticket.Phase == evidence.PhaseOpen && now-m.heard > silence:
		return m.end("the recorder no longer says that it stopped")
	}
	return false
}

// take looks for a ticket and asks the recorder to stop where it is good.
func (m *maintenance) take() bool {
	msg, err := runfile.Read(m.cfg.Tickets.File)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			m.wait(fmt.Sprintf("ticket: %v", err))
		}
		return false
	}
	sum := sha256.Sum256(msg)
	if sum == m.refused {
		return false
	}
	r, err := m.recorder()
	switch {
	case err != nil:
		m.wait("a ticket waits for the recorder, whose boot number it is bound to: " + err.Error())
		return false
	case r.Armed:
		m.wait("a ticket waits until the vehicle is disarmed")
		return false
	}
	m.waits = ""
	now := m.cfg.Now()
	s, err := m.cfg.Tickets.Admit(msg, r.Device, r.BootCount, now)
	if err != nil {
		m.refuse(sum, err)
		return true
	}
	order, ok := s.Order.(*custody.Ticket)
	if !ok {
		m.refuse(sum, custody.ErrOtherAction)
		return true
	}
	m.since, m.ends = now, now+time.Duration(order.SpanUsec)*time.Microsecond
	m.ticket = &evidence.Maintenance{Number: s.Number.String(), Interfaces: order.Interfaces, SpanUsec: order.SpanUsec,
		Phase: evidence.PhaseAsked, EndsUsec: m.ends.Microseconds()}
	m.cfg.Log.Info("guard: ticket admitted, recording is asked to stop", slog.String("number", m.ticket.Number),
		slog.String("signer", s.Signer), slog.String("interfaces", strings.Join(order.Interfaces, " ")))
	return true
}

func (m *maintenance) open(now time.Duration) bool {
	m.ticket.Phase, m.since = evidence.PhaseOpen, now
	m.cfg.Log.Warn("guard: the lock is open", slog.String("interfaces", strings.Join(m.ticket.Interfaces, " ")),
		slog.Duration("for", m.ends-now))
	if err := m.cfg.Lock.Open(m.ticket.Interfaces); err != nil {
		m.cfg.Log.Error("guard: opening", slog.Any("err", err))
		m.end("it could not be opened")
	}
	return true
}

// end closes what a ticket opened. It is tried again with each look of the lock: a layer that
// cannot be applied is broken, and the board then is not called locked.
func (m *maintenance) end(why string) bool {
	if m.ticket == nil {
		return false
	}
	if m.ticket.Phase == evidence.PhaseOpen {
		if err := m.cfg.Lock.Shut(); err != nil {
			m.cfg.Log.Error("guard: closing", slog.Any("err", err))
		}
	}
	m.cfg.Log.Info("guard: the ticket has ended", slog.String("number", m.ticket.Number), slog.String("why", why))
	m.ticket = nil
	return true
}

func (m *maintenance) refuse(sum [sha256.Size]byte, err error) {
	m.refused = sum
	m.cfg.Log.Warn("guard: ticket refused", slog.Any("err", err))
	now := m.cfg.Now().Microseconds()
	m.cfg.Attempts(evidence.Attempt{Usec: now, SeenUsec: now, Layer: "ticket", What: "ticket", UID: -1,
		Detail: "refused: " + err.Error(), Count: 1})
}

// wait logs once why a ticket is not looked at.
func (m *maintenance) wait(why string) {
	if m.waits != why {
		m.waits = why
		m.cfg.Log.Info("guard: " + why)
	}
}

var errRecorder = errors.New("it is not there")

// recorder reads what the recorder says, if it said it a moment ago.
func (m *maintenance) recorder() (*evidence.Recorder, error) {
	p, err := runfile.Read(filepath.Join(m.cfg.Dir, evidence.RecorderFile))
	if err != nil {
		return nil, errRecorder
	}
	r, err := evidence.ParseRecorder(p)
	if err != nil {
		return nil, err
	}
	age := m.cfg.Now() - time.Duration(r.Usec)*time.Microsecond
	if r.Boot != m.cfg.Boot || age > evidence.Stale || r.BootCount < 1 {
		return nil, errRecorder
	}
	return r, nil
}
