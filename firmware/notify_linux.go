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

// watchdog tells each second that the process goes on, while alive says so, until done is closed.
func (n *notifier) watchdog(done <-chan struct{}, alive func() bool) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			if alive() {
				n.tell("WATCHDOG=1")
			}
		}
	}
}
