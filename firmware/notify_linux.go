package firmware

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells the service manager how it goes, by sd_notify(3)'s protocol: datagrams to the
// unix socket that NOTIFY_SOCKET names. The socket is opened once, before the process gives up
// the right to open any; a library that opens one for each message would be refused. Where
// there is no service manager, or no socket of any kind, it does nothing.
type notifier struct{ fd int }

func newNotifier() (*notifier, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return &notifier{-1}, nil
	}
	if name[0] == '@' { // abstract
		name = "\x00" + name[1:]
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return &notifier{-1}, fmt.Errorf("service manager: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return &notifier{-1}, errors.Join(fmt.Errorf("service manager: %w", err), unix.Close(fd))
	}
	return &notifier{fd}, nil
}

// tell sends state. It never waits, and a manager that does not listen is its own matter.
func (n *notifier) tell(state string) {
	if n.fd >= 0 {
		_, _ = unix.Write(n.fd, []byte(state))
	}
}

// watchdogSilence is how long the beat may stand still: a sync of a card that is wearing out can
// take seconds, and starting the recorder again does not make it faster.
const watchdogSilence = 20 * time.Second

// follow tells that the program is ready, and each second that it goes on, until done is
// closed. beat counts what it does; a beat that stands still is told no more, and the service
// manager's watchdog then starts the program again.
func (n *notifier) follow(done, ready <-chan struct{}, beat func() int64) {
	select {
	case <-done:
		return
	case <-ready:
		n.tell("READY=1")
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	last, since := beat(), time.Now()
	for {
		select {
		case <-done:
			n.tell("STOPPING=1")
			return
		case <-t.C:
		}
		if now := beat(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < watchdogSilence {
			n.tell("WATCHDOG=1")
		}
	}
}
