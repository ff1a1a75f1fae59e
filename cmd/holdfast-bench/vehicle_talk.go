package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"holdfast/mavlink"
	"holdfast/mavlink/serial"
	"holdfast/mavlink/serial/serialtest"
	"holdfast/mavlink/tlog"
	"holdfast/mavlink/vehicle"
)

// talk is a flight on a line: what the vehicle says goes out, what comes back it hears.
type talk struct {
	sender  *sender
	line    *vehicle.Lossy
	heard   *tlog.Writer // of --sent-to-vehicle, or nil
	vehicle *vehicle.Vehicle
	options vehicle.Options

	scanner *mavlink.Scanner
	noise   uint64
	err     error // of the tlog
}

// fly sends one flight in real time and hears what the reader's side sends meanwhile.
func (t *talk) fly(ctx context.Context, o vehicle.Options) (err error) {
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	if t.vehicle, err = vehicle.New(o); err != nil {
		return err
	}
	t.options, t.scanner = o, mavlink.NewScanner(t)
	ear := listen(t.sender.pty, time.Now())
	err = t.sender.send(ctx, func() (piece, error) { return t.next(ear) })
	err = errors.Join(err, t.drain(ctx))
	ear.close()
	t.take(ear, earBuffer)
	t.scanner.End(ear.at)
	t.summarize()
	return errors.Join(err, t.err)
}

// lastWords is how long a vehicle that is interrupted waits until what it said was read.
const lastWords = time.Second

// drain waits until all was read: what the summary counts has arrived, also after an interrupt.
func (t *talk) drain(ctx context.Context) error {
	if ctx.Err() == nil {
		return t.sender.pty.Drain(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	_ = t.sender.pty.Drain(ctx) // nobody may be there; the interrupt is what is told
	return nil
}

// next is the source of the flight: the next frame that the line does not lose.
func (t *talk) next(ear *ear) (piece, error) {
	for {
		t.take(ear, earTurn)
		e, ok := t.vehicle.Next()
		if !ok {
			return piece{}, keep(t.vehicle.Err(), t.err, io.EOF)
		}
		t.sender.bar.Show(e.At.Milliseconds(), func() string { return progressText(t.vehicle.State()) })
		if t.line.Pass(e.At, vehicle.FromVehicle, e.Raw) {
			return piece{at: e.At, stamp: stampOf(t.options, e.At), raw: e.Raw, frame: true}, nil
		}
	}
}

// take hands what has come in to the scanner, some most bytes of it.
func (t *talk) take(ear *ear, most int) {
	for _, c := range ear.take(most) {
		t.scanner.Write(c.at, c.data)
	}
}

// Frame notes a frame of the reader's side and lets the vehicle hear it, unless it is lost.
func (t *talk) Frame(f *mavlink.Frame) {
	if t.heard != nil {
		t.err = keep(t.err, t.heard.WriteEntry(stampOf(t.options, f.At), f.Raw))
	}
	if t.line.Pass(f.At, vehicle.ToVehicle, f.Raw) {
		t.vehicle.Receive(f.At, f)
	}
}

// Noise counts bytes of the reader's side that are in no frame.
func (t *talk) Noise(n *mavlink.Noise) { t.noise += uint64(len(n.Data)) }

const (
	// earBuffer is how much may wait to be heard; a reader that floods the line beyond it
	// is not listened to, but never blocked.
	earBuffer = 1 << 20
	// earTurn is about how much is looked at before each frame of the vehicle's own, so that a flood
	// does not keep it from flying: 800 frames a second hear 12 MB.
	earTurn = 16 << 10
	// earWait is the longest that the ear stays in the kernel.
	earWait = 20 * time.Millisecond
)

// heardBytes came at a time since the flight began.
type heardBytes struct {
	at   time.Duration
	data []byte
}

// ear reads the line in a goroutine of its own, so that whoever writes to it is not held
// up while the vehicle waits for its turn or for a reader.
type ear struct {
	at   time.Duration // of the last look; read after close
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	waiting []heardBytes
	size    int
}

func listen(pty *serialtest.Pty, began time.Time) *ear {
	e := &ear{stop: make(chan struct{}), done: make(chan struct{})}
	go e.run(pty, began)
	return e
}

func (e *ear) run(pty *serialtest.Pty, began time.Time) {
	defer close(e.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := pty.Read(buf, earWait)
		e.at = time.Since(began)
		if n > 0 {
			e.put(heardBytes{e.at, append([]byte(nil), buf[:n]...)})
		}
		if err != nil && !errors.Is(err, serial.ErrSilent) {
			return // the line is closed; what came before counts
		}
		select {
		case <-e.stop:
			return
		default:
		}
	}
}

func (e *ear) put(h heardBytes) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.size+len(h.data) > earBuffer {
		return
	}
	e.waiting = append(e.waiting, h)
	e.size += len(h.data)
}

// take returns what came first of what waits: no more pieces once there are most bytes.
func (e *ear) take(most int) []heardBytes {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, size := 0, 0
	for ; n < len(e.waiting) && size < most; n++ {
		size += len(e.waiting[n].data)
	}
	out := e.waiting[:n:n]
	if e.waiting = e.waiting[n:]; len(e.waiting) == 0 {
		e.waiting = nil
	}
	e.size -= size
	return out
}

// close ends the goroutine and waits for it.
func (e *ear) close() {
	close(e.stop)
	<-e.done
}
