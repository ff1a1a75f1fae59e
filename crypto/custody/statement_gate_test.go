package custody_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"holdfast/crypto/custody"
)

// medium is the file of the used numbers.
type medium struct {
	mu     sync.Mutex
	data   []byte
	writes int
	fail   error // of the next write, of which part bytes are kept
	part   int
}

func (m *medium) write(line []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if m.fail != nil {
		m.data = append(m.data, line[:m.part]...)
		return m.fail
	}
	m.data = append(m.data, line...)
	return nil
}

// start loads the numbers as a board does at its start.
func (m *medium) start(t testing.TB) *custody.NumberLog {
	t.Helper()
	l, good, err := custody.LoadNumbers(m.data, m.write)
	if err != nil {
		t.Fatal(err)
	}
	m.data = m.data[:good]
	return l
}

func gateOf(t testing.TB, m *medium, seeds ...byte) *custody.Gate {
	t.Helper()
	var trusted []note.Verifier
	for _, seed := range seeds {
		_, v := operator(t, seed)
		trusted = append(trusted, v)
	}
	return custody.NewGate(statementDevice, trusted, m.start(t))
}

func TestGateAdmits(t *testing.T) {
	signer, _ := operator(t, 1)
	m := &medium{}
	g := gateOf(t, m, 2, 1)
	for name, s := range statements() {
		got, err := g.Admit(mustSign(t, s, signer), s.Order.Action(), 7, time.Hour)
		if err != nil || got.Number != s.Number || got.Signer != signer.Name() {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if m.writes != len(statements()) {
		t.Errorf("%d numbers kept", m.writes)
	}
}

// TestGateRefuses: each reason has its error, and a refused statement uses up no number.
func TestGateRefuses(t *testing.T) {
	signer, _ := operator(t, 1)
	stranger, _ := operator(t, 9)
	ticket := statements()["ticket"]
	elsewhere := *ticket
	elsewhere.Device = "ffffffff"
	msg := mustSign(t, ticket, signer)
	for name, tt := range map[string]struct {
		msg  []byte
		want custody.Action
		boot int64
		now  time.Duration
		err  error
	}{
		"no statement":      {[]byte("let me in\n"), custody.ActionTicket, 7, 0, custody.ErrStatement},
		"stranger":          {mustSign(t, ticket, stranger), custody.ActionTicket, 7, 0, custody.ErrUntrusted},
		"other action":      {msg, custody.ActionStick, 7, 0, custody.ErrOtherAction},
		"no action":         {msg, "", 7, 0, custody.ErrOtherAction},
		"other device":      {mustSign(t, &elsewhere, signer), custody.ActionTicket, 7, 0, custody.ErrOtherDevice},
		"a moment too late": {msg, custody.ActionTicket, 7, time.Hour + time.Microsecond, custody.ErrExpired},
		"a boot too late":   {msg, custody.ActionTicket, 8, 0, custody.ErrExpired},
	} {
		m := &medium{}
		g := gateOf(t, m, 1, 2)
		if s, err := g.Admit(tt.msg, tt.want, tt.boot, tt.now); !errors.Is(err, tt.err) || s != nil {
			t.Errorf("%s: %+v, %v, want %v", name, s, err, tt.err)
		}
		if m.writes != 0 {
			t.Errorf("%s: the number is used up", name)
		}
		if _, err := g.Admit(msg, custody.ActionTicket, 7, time.Hour); err != nil {
			t.Errorf("%s: the right one after it: %v", name, err)
		}
	}
}

func TestGateAdmitsBefore(t *testing.T) {
	signer, _ := operator(t, 1)
	msg := mustSign(t, statements()["ticket"], signer)
	for _, at := range []struct {
		boot int64
		now  time.Duration
	}{{1, 1000 * time.Hour}, {6, 2 * time.Hour}, {7, 0}, {7, time.Hour}} {
		if _, err := gateOf(t, &medium{}, 1).Admit(msg, custody.ActionTicket, at.boot, at.now); err != nil {
			t.Errorf("boot %d, %v: %v", at.boot, at.now, err)
		}
	}
}

func TestGateTrustsNobody(t *testing.T) {
	signer, _ := operator(t, 1)
	if _, err := gateOf(t, &medium{}).Admit(mustSign(t, statements()["ticket"], signer), custody.ActionTicket, 7, 0); !errors.Is(err, custody.ErrUntrusted) {
		t.Errorf("got %v", err)
	}
}

// TestGateReplay: the same statement, the same number in another one, and both after a restart.
func TestGateReplay(t *testing.T) {
	signer, _ := operator(t, 1)
	second, _ := operator(t, 2)
	m := &medium{}
	ticket := statements()["ticket"]
	stick := statements()["stick"]
	stick.Number = ticket.Number
	replay := func(when string, g *custody.Gate) {
		t.Helper()
		for name, try := range map[string]struct {
			msg  []byte
			want custody.Action
		}{
			"same statement":       {mustSign(t, ticket, signer), custody.ActionTicket},
			"signed by another":    {mustSign(t, ticket, second), custody.ActionTicket},
			"number of another":    {mustSign(t, stick, signer), custody.ActionStick},
			"same statement again": {mustSign(t, ticket, signer), custody.ActionTicket},
		} {
			if _, err := g.Admit(try.msg, try.want, 7, 0); !errors.Is(err, custody.ErrReplayed) {
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
	}
	g := gateOf(t, m, 1, 2)
	if _, err := g.Admit(mustSign(t, ticket, signer), custody.ActionTicket, 7, 0); err != nil {
		t.Fatal(err)
	}
	replay("at once", g)
	replay("after a restart", gateOf(t, m, 1, 2))
	if m.writes != 1 {
		t.Errorf("%d lines written", m.writes)
	}
}

// TestGateReplayAtOnce: of many that bring the same statement at the same time, to two gates,
// one is let in.
func TestGateReplayAtOnce(t *testing.T) {
	signer, verifier := operator(t, 1)
	m := &medium{}
	log := m.start(t)
	gates := []*custody.Gate{custody.NewGate(statementDevice, []note.Verifier{verifier}, log), custody.NewGate(statementDevice, []note.Verifier{verifier}, log)}
	msg := mustSign(t, statements()["ticket"], signer)
	const visitors = 16
	errs := make(chan error, visitors)
	var ready sync.WaitGroup
	ready.Add(visitors)
	for i := range visitors {
		go func() {
			ready.Done()
			ready.Wait()
			_, err := gates[i%2].Admit(msg, custody.ActionTicket, 7, 0)
			errs <- err
		}()
	}
	admitted := 0
	for range visitors {
		if err := <-errs; err == nil {
			admitted++
		} else if !errors.Is(err, custody.ErrReplayed) {
			t.Error(err)
		}
	}
	if admitted != 1 || m.writes != 1 {
		t.Errorf("%d were let in, %d lines written", admitted, m.writes)
	}
}

// TestGateMediumFails: what cannot be remembered is not admitted, then and later, until a start
// has read what the medium holds.
func TestGateMediumFails(t *testing.T) {
	signer, _ := operator(t, 1)
	const line = 42
	for part := range line + 1 {
		broken := errors.New("input/output error")
		m := &medium{}
		g := gateOf(t, m, 1)
		if _, err := g.Admit(mustSign(t, statements()["stick"], signer), custody.ActionStick, 7, 0); err != nil {
			t.Fatal(err)
		}
		m.fail, m.part = broken, part
		ticket := mustSign(t, statements()["ticket"], signer)
		if _, err := g.Admit(ticket, custody.ActionTicket, 7, 0); !errors.Is(err, custody.ErrNumbers) || !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		m.fail = nil
		if _, err := g.Admit(ticket, custody.ActionTicket, 7, 0); !errors.Is(err, custody.ErrReplayed) {
			t.Errorf("the same one again: %v", err)
		}
		if _, err := g.Admit(mustSign(t, statements()["receipt"], signer), custody.ActionReceipt, 7, 0); !errors.Is(err, custody.ErrNumbers) {
			t.Errorf("another one: %v", err)
		}
		_, err := gateOf(t, m, 1).Admit(ticket, custody.ActionTicket, 7, 0)
		if part < line && err != nil || part == line && !errors.Is(err, custody.ErrReplayed) {
			t.Errorf("%d bytes reached the medium, after a restart: %v", part, err)
		}
		if l := m.start(t); !errors.Is(l.Use(statements()["stick"].Number), custody.ErrReplayed) {
			t.Error("the number before it is forgotten")
		}
	}
}

// TestLoadNumbersDamaged: a list that could have lost a number is not gone on with.
func TestLoadNumbersDamaged(t *testing.T) {
	m := &medium{}
	l := m.start(t)
	for i := range byte(4) {
		if err := l.Use(number(i)); err != nil {
			t.Fatal(err)
		}
	}
	const line = 42
	if len(m.data) != 4*line {
		t.Fatalf("%d bytes", len(m.data))
	}
	for at := range 3 * line { // each byte that is not of the last line
		bad := bytes.Clone(m.data)
		bad[at] ^= 1
		if _, _, err := custody.LoadNumbers(bad, m.write); !errors.Is(err, custody.ErrNumbers) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for name, data := range map[string][]byte{
		"a line twice":    append(bytes.Clone(m.data), m.data[:line]...),
		"a line taken":    append(bytes.Clone(m.data[:line]), m.data[line+1:]...),
		"zeros behind":    append(bytes.Clone(m.data), make([]byte, line+1)...),
		"something else":  bytes.Repeat([]byte("PNG\n"), 30),
		"capital letters": bytes.ToUpper(bytes.Replace(m.data, []byte("0a"), []byte("0A"), 1)),
	} {
		if _, _, err := custody.LoadNumbers(data, m.write); !errors.Is(err, custody.ErrNumbers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for cut := range line { // a cut while the last line was written
		for name, tail := range map[string][]byte{"cut": nil, "zeros": make([]byte, line-cut)} {
			data := append(bytes.Clone(m.data[:3*line+cut]), tail...)
			if l, good, err := custody.LoadNumbers(data, m.write); err != nil || good != 3*line || l == nil {
				t.Errorf("%s after %d bytes of a line: good %d, %v", name, cut, good, err)
			}
		}
	}
}

func TestNewNumber(t *testing.T) {
	n, err := custody.NewNumber(bytes.NewReader(bytes.Repeat([]byte{0xab}, 16)))
	if want := "abababababababababababababababab"; err != nil || n.String() != want {
		t.Errorf("%s, %v", n, err)
	}
	if _, err := custody.NewNumber(bytes.NewReader(make([]byte, 15))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short random: %v", err)
	}
}

func FuzzNumbers(f *testing.F) {
	m := &medium{}
	l := m.start(f)
	for i := range byte(3) {
		if err := l.Use(number(i)); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(m.data))
		f.Add(m.data[:len(m.data)-5])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &medium{data: bytes.Clone(data)}
		l, good, err := custody.LoadNumbers(data, m.write)
		if err != nil {
			return
		}
		if good > int64(len(data)) || int64(len(data))-good > 42 {
			t.Fatalf("good %d of %d", good, len(data))
		}
		m.data = m.data[:good]
		fresh := number(77)
		if err := l.Use(fresh); err != nil && !errors.Is(err, custody.ErrReplayed) {
			t.Fatal(err)
		}
		if again := m.start(t).Use(fresh); !errors.Is(again, custody.ErrReplayed) {
			t.Fatal(fmt.Errorf("after a restart: %w", again))
		}
	})
}
