package firmware

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// ErrMountedAnew ends a recorder whose medium was taken away, and is back as another mount. What it
// holds open, and what it may open, belong to the one that is gone: only a new process gets to the
// new one.
var ErrMountedAnew = errors.New("the vault's medium was mounted anew; starting again on it")

const (
	// mediumEvery is how often the medium is looked at.
	mediumEvery = time.Second
	// mediumTurns is how often in a row the vault must be in a fault, and another one in its place: a
	// mount that is being made is waited for, and a vault that records is never left.
	mediumTurns = 3
)

// mediumWatch tells when the path of the vault leads to another file system than it did at first.
type mediumWatch struct {
	path  string
	was   unix.Stat_t
	turns int
}

func newMediumWatch(path string) (*mediumWatch, error) {
	w := &mediumWatch{path: path}
	return w, unix.Stat(path, &w.was)
}

// look is called in even steps; faulty says that the vault refuses.
func (w *mediumWatch) look(faulty bool) (anew bool) {
	var is unix.Stat_t
	if !faulty || unix.Stat(w.path, &is) != nil || is.Dev == w.was.Dev && is.Ino == w.was.Ino {
		w.turns = 0
		return false
	}
	w.turns++
	return w.turns >= mediumTurns
}

// follow calls anew, once, when the medium was mounted anew, or returns when ctx ends.
func (w *mediumWatch) follow(ctx context.Context, faulty func() bool, anew func(error)) {
	t := time.NewTicker(mediumEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if w.look(faulty()) {
			anew(ErrMountedAnew)
			return
		}
	}
}
