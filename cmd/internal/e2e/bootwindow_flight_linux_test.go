package e2e_test

import (
	"net"
	"testing"
	"time"

	"holdfast/mavlink/vehicle"
)

// pilot flies a vehicle whose flight controller is at the end of a machine's UART, in real time: from shortly
// before it arms, on and on, and when it is told to land, to some seconds after it has disarmed.
// What lies between is never sent.
type pilot struct {
	all    []vehicle.Emission
	landAt int           // index shortly before it disarms
	land   chan struct{} // closed by the test
	sent   [][]byte      // valid once done is closed
	done   chan struct{}
	err    error
}

// flyEvery is how often what is due is sent.
const flyEvery = 20 * time.Millisecond

// fly starts the flight.
func fly(t testing.TB, line net.Conn, o vehicle.Options) *pilot {
	t.Helper()
	p := &pilot{all: emissions(t, o), land: make(chan struct{}), done: make(chan struct{})}
	first := -1
	for i, e := range p.all {
		if armed, known := isArmed(e.Raw); known && armed {
			if first < 0 {
				first = i
			}
			p.landAt = i
		}
	}
	if first < 0 || p.landAt == len(p.all)-1 {
		t.Fatal("the vehicle does not both arm and disarm")
	}
	from := p.before(first)
	p.landAt = p.before(p.landAt)
	go func() {
		defer close(p.done)
		p.run(line, from)
	}()
	return p
}

// before returns the index two seconds before another.
func (p *pilot) before(i int) int {
	for at := p.all[i].At - 2*time.Second; i > 0 && p.all[i].At > at; {
		i--
	}
	return i
}

func (p *pilot) run(line net.Conn, next int) {
	tick := time.NewTicker(flyEvery)
	defer tick.Stop()
	land := p.land
	for now := p.all[next].At; next < len(p.all); now += flyEvery {
		select {
		case <-land:
			land, next = nil, max(next, p.landAt)
			now = p.all[next].At
		case <-tick.C:
		}
		for ; next < len(p.all) && p.all[next].At <= now; next++ {
			if _, p.err = line.Write(p.all[next].Raw); p.err != nil {
				return
			}
			p.sent = append(p.sent, p.all[next].Raw)
		}
	}
}

// down waits for the end of the flight. One that ended before it was told to did not last.
func (p *pilot) down(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("the flight ended too early: %v", p.err)
	default:
	}
	close(p.land)
	<-p.done
	if p.err != nil {
		t.Fatalf("the line: %v", p.err)
	}
}
