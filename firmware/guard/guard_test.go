package guard_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/firmware/evidence"
	"holdfast/firmware/guard"
)

const (
	boot   = "b00t"
	device = "0a1b2c3d"
)

// fakeLock notes what it is told.
type fakeLock struct {
	mu      sync.Mutex
	open    []string
	opened  int
	shut    int
	refused int64
	openErr error
}

func (l *fakeLock) Apply() error { return nil }

func (l *fakeLock) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (l *fakeLock) State() evidence.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := evidence.Lock{Lock: evidence.Locked, Grade: evidence.GradeB, Refused: l.refused}
	if len(l.open) > 0 {
		s.Lock, s.Grade = evidence.Open, evidence.None
	}
	return s
}

func (l *fakeLock) Open(interfaces []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.opened = interfaces, l.opened+1
	return l.openErr
}

func (l *fakeLock) refuse(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = n
}

// told returns what is open, and how often it was opened and shut.
func (l *fakeLock) told() (open []string, opened, shut int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open, l.opened, l.shut
}

func (l *fakeLock) Shut() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.shut = nil, l.shut+1
	return nil
}

// board is a guard, and the recorder beside it as files have it.
type board struct {
	t        *testing.T
	dir      string
	lock     *fakeLock
	signer   *keys.OperatorKey
	began    time.Time
	mu       sync.Mutex
	attempts []evidence.Attempt
	stop     context.CancelFunc
	done     chan error
}

func newBoard(t *testing.T) *board {
	t.Helper()
	b := &board{t: t, dir: t.TempDir(), lock: &fakeLock{}, began: time.Now()}
	b.must(os.Mkdir(filepath.Join(b.dir, "recorder"), 0o755))
	k, err := keys.NewOperatorKey(rand.Reader)
	b.must(err)
	b.signer = k
	b.must(os.WriteFile(b.path("signers.txt"), []byte("# desk\n"+k.Verifier()+"\n"), 0o644))
	b.start()
	return b
}

func (b *board) start() {
	b.t.Helper()
	g, err := guard.New(guard.Config{
		Lock: b.lock, Dir: b.dir, Boot: boot, Now: b.now, Log: slog.New(slog.DiscardHandler),
		Tickets: guard.Tickets{File: b.path("ticket"), Admit: guard.FileAdmit(b.path("signers.txt"), b.path("used-numbers"))},
		Attempts: func(a evidence.Attempt) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.attempts = append(b.attempts, a)
		},
	})
	b.must(err)
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan error, 1)
	go func() { b.done <- g.Run(ctx) }()
	synctest.Wait()
}

func (b *board) end() {
	b.stop()
	b.must(<-b.done)
}

func (b *board) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *board) path(name string) string { return filepath.Join(b.dir, name) }

// now is a kernel's that started an hour before the test.
func (b *board) now() time.Duration { return time.Hour + time.Since(b.began) }

// recorder says something, again and again, for d.
func (b *board) recorder(d time.Duration, r evidence.Recorder) {
	b.t.Helper()
	for range max(d/(500*time.Millisecond), 1) {
		r.Boot, r.Device, r.BootCount, r.Usec = boot, device, 7, b.now().Microseconds()
		p, err := evidence.Marshal(&r)
		b.must(err)
		b.must(os.WriteFile(b.path(evidence.RecorderFile), p, 0o644))
		b.wait(500 * time.Millisecond)
	}
}

func (b *board) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// ticket makes one, good for span, and puts it where the guard looks.
func (b *board) ticket(span time.Duration, change func(*custody.Statement)) []byte {
	b.t.Helper()
	n, err := custody.NewNumber(rand.Reader)
	b.must(err)
	s := &custody.Statement{Device: device, Number: n, Until: custody.Until{Boot: 7, Usec: (b.now() + time.Hour).Microseconds()},
		Order: &custody.Ticket{Interfaces: []string{"eth0"}, SpanUsec: span.Microseconds()}}
	if change != nil {
		change(s)
	}
	signer, err := b.signer.Signer()
	b.must(err)
	msg, err := s.Sign(signer)
	b.must(err)
	b.must(os.WriteFile(b.path("ticket"), msg, 0o644))
	return msg
}

// told is LockFile.
func (b *board) told() *evidence.Lock {
	b.t.Helper()
	p, err := os.ReadFile(b.path(evidence.LockFile))
	b.must(err)
	l, err := evidence.ParseLock(p)
	b.must(err)
	if age := b.now() - time.Duration(l.Usec)*time.Microsecond; l.Boot != boot || age > evidence.Stale {
		b.t.Fatalf("lock file of boot %q is %v old", l.Boot, age)
	}
	return l
}

// is checks the phase ("" none) that the lock file tells and what the lock itself has open.
func (b *board) is(when, phase string, open ...string) {
	b.t.Helper()
	l := b.told()
	got := ""
	if l.Maintenance != nil {
		got = l.Maintenance.Phase
	}
	if have, _, _ := b.lock.told(); got != phase || !slices.Equal(have, open) {
		b.t.Fatalf("%s: phase %q, open %v, want %q, %v", when, got, have, phase, open)
	}
}

// times checks how often the lock was opened and shut.
func (b *board) times(opened, shut int) {
	b.t.Helper()
	if _, o, s := b.lock.told(); o != opened || s != shut {
		b.t.Errorf("opened %d times, shut %d times, want %d and %d", o, s, opened, shut)
	}
}

// refusals are the attempts that the guard told.
func (b *board) refusals() []evidence.Attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.attempts
}

// stopped is what a recorder says that has stopped for the ticket which LockFile names.
func (b *board) stopped() evidence.Recorder {
	return evidence.Recorder{State: "standby", Stopped: b.told().Maintenance.Number}
}

var recording = evidence.Recorder{State: "recording", Record: "G00000001"}

func TestTicketLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		b.ticket(10*time.Minute, nil)
		b.wait(5 * time.Second)
		b.is("nobody knows the recorder's boot", "")
		b.recorder(5*time.Second, evidence.Recorder{State: "recording", Armed: true})
		b.is("armed", "")
		b.recorder(time.Second, recording)
		b.is("asked", evidence.PhaseAsked)
		b.recorder(10*time.Second, recording)
		b.is("the recorder has not stopped", evidence.PhaseAsked)
		b.recorder(time.Second, b.stopped())
		b.is("open", evidence.PhaseOpen, "eth0")
		if l := b.told(); l.Lock != evidence.Open || l.Grade != evidence.None {
			t.Errorf("while open: %s, grade %s", l.Lock, l.Grade)
		}
		b.recorder(9*time.Minute, b.stopped())
		b.is("still its time", evidence.PhaseOpen, "eth0")
		b.recorder(time.Minute, b.stopped())
		b.is("over", "")
		b.recorder(time.Minute, recording)
		b.is("the same ticket again", "")
		b.times(1, 1)
		if a := b.refusals(); len(a) != 1 || !strings.Contains(a[0].Detail, custody.ErrReplayed.Error()) {
			t.Errorf("attempts: %+v, want the replay, once", a)
		}
		b.end()
		b.start() // another guard, same numbers
		b.recorder(time.Minute, recording)
		b.is("the same ticket, another guard", "")
		b.end()
	})
}

// TestNeverOpened: what does not open the lock.
func TestNeverOpened(t *testing.T) {
	for name, try := range map[string]func(b *board){
		"another signer": func(b *board) {
			b.ticket(time.Minute, nil)
			k, err := keys.NewOperatorKey(rand.Reader)
			b.must(err)
			b.must(os.WriteFile(b.path("signers.txt"), []byte(k.Verifier()+"\n"), 0o644))
		},
		"no signer":                      func(b *board) { b.ticket(time.Minute, nil); b.must(os.Remove(b.path("signers.txt"))) },
		"empty signers":                  func(b *board) { b.ticket(time.Minute, nil); b.must(os.WriteFile(b.path("signers.txt"), nil, 0o644)) },
		"signers that others can change": func(b *board) { b.ticket(time.Minute, nil); b.must(os.Chmod(b.path("signers.txt"), 0o666)) },
		"another board":                  func(b *board) { b.ticket(time.Minute, func(s *custody.Statement) { s.Device = "ffffffff" }) },
		"another boot":                   func(b *board) { b.ticket(time.Minute, func(s *custody.Statement) { s.Until.Boot = 6 }) },
		"its time is over":               func(b *board) { b.ticket(time.Minute, func(s *custody.Statement) { s.Until.Usec = 1 }) },
		"a receipt":                      func(b *board) { b.ticket(0, receipt) },
		"damaged numbers": func(b *board) {
			b.ticket(time.Minute, nil)
			b.must(os.WriteFile(b.path("used-numbers"), bytes.Repeat([]byte("x"), 84), 0o600))
		},
		"one byte changed": func(b *board) {
			b.replace(bytes.Replace(b.ticket(time.Minute, nil), []byte("eth0"), []byte("eth1"), 1))
		},
		"noise":              func(b *board) { b.replace([]byte("open sesame")) },
		"an empty file":      func(b *board) { b.replace(nil) },
		"a folder":           func(b *board) { b.must(os.Mkdir(b.path("ticket"), 0o755)) },
		"megabytes of noise": func(b *board) { b.replace(make([]byte, 4<<20)) },
		"a link": func(b *board) {
			b.ticket(time.Minute, nil)
			b.must(errors.Join(os.Rename(b.path("ticket"), b.path("real")), os.Symlink("real", b.path("ticket"))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(t)
				try(b)
				b.recorder(10*time.Second, recording)
				b.is("after ten seconds", "")
				b.times(0, 0)
				if a := b.refusals(); len(a) > 1 {
					t.Errorf("told %d times: %+v", len(a), a)
				}
				b.end()
			})
		})
	}
}

func receipt(s *custody.Statement) {
	s.Until = custody.Until{}
	s.Order = &custody.Receipt{Records: []custody.ReceiptRecord{{Record: "F00000001"}}, Leaves: 1}
}

func (b *board) replace(p []byte) { b.must(os.WriteFile(b.path("ticket"), p, 0o644)) }

// TestEndsEarly: an opening ends before its time where one of its grounds is gone.
func TestEndsEarly(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(b *board)
		opened  int
	}{
		"ticket taken away":    {func(b *board) { b.must(os.Remove(b.path("ticket"))); b.recorder(time.Second, b.stopped()) }, 1},
		"armed":                {func(b *board) { r := b.stopped(); r.Armed = true; b.recorder(time.Second, r) }, 1},
		"recorder died":        {func(b *board) { b.wait(10 * time.Second) }, 1},
		"recorder records":     {func(b *board) { b.recorder(7*time.Second, recording) }, 1},
		"the guard ends":       {func(b *board) { b.end(); b.start() }, 1},
		"recorder never stops": {func(b *board) { b.recorder(31*time.Second, recording) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(t)
				b.ticket(time.Hour, nil)
				b.recorder(time.Second, recording)
				b.is("asked", evidence.PhaseAsked)
				if c.opened > 0 {
					b.recorder(time.Second, b.stopped())
					b.is("open", evidence.PhaseOpen, "eth0")
				}
				c.happens(b)
				b.recorder(time.Second, recording)
				b.is("after that", "")
				b.times(c.opened, c.opened)
				b.end()
			})
		})
	}
}

// TestOpenFails: an opening that fails half way is shut.
func TestOpenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		b.lock.openErr = errors.New("no such table")
		b.ticket(time.Hour, nil)
		b.recorder(time.Second, recording)
		b.recorder(time.Second, b.stopped())
		b.is("after a failure", "")
		b.times(1, 1)
		b.end()
	})
}

// TestCountsGoOn: a guard goes on with the counts of the one before it in the same boot.
func TestCountsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		b.lock.refuse(40)
		b.wait(2 * time.Second)
		b.end()
		b.lock = &fakeLock{refused: 2}
		b.start()
		if l := b.told(); l.Refused != 42 {
			t.Errorf("refused %d, want 42", l.Refused)
		}
		b.end()
		other, err := evidence.Marshal(&evidence.Lock{Boot: "another", Refused: 1000})
		b.must(err)
		b.must(os.WriteFile(b.path(evidence.LockFile), other, 0o644))
		b.start()
		if l := b.told(); l.Refused != 2 {
			t.Errorf("refused %d after another boot's file, want 2", l.Refused)
		}
		b.end()
	})
}
