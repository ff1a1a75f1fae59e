package netaudit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/firmware/evidence"
	"holdfast/firmware/netlock"
)

// locker is what is attacked.
type locker interface {
	Apply() error
	Run(ctx context.Context) error
	State() evidence.Lock
	Close() error
}

// applied is what the guard says once, when the lock stands.
type applied struct {
	Err   string        `json:"err,omitempty"` // why it is not called locked
	State evidence.Lock `json:"state"`
}

// runGuard locks this network namespace as the board's guard does, says so, and keeps it locked.
// args: the cgroup, or -; the layers left out, with commas.
func runGuard(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("guard: %d arguments", len(args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	without := strings.Split(args[1], ",")
	if args[1] == "none" {
		without = nil
	}
	lock, err := newLock(strings.TrimPrefix(args[0], "-"), without)
	if err != nil {
		return err
	}
	defer lock.Close()
	say := applied{}
	if err := lock.Apply(); err != nil {
		say.Err = err.Error()
	}
	say.State = lock.State()
	if err := json.NewEncoder(os.Stdout).Encode(say); err != nil {
		return err
	}
	return lock.Run(ctx)
}

func newLock(cgroup string, without []string) (locker, error) {
	return netlock.New(netlock.Config{Namespace: true, Cgroup: cgroup, Without: without})
}
