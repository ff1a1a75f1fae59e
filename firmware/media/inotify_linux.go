package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watch tells what happens in a folder (inotify(7)).
type watch struct{ f *os.File }

// watchInbox watches the folder that dir is.
func watchInbox(dir *os.File) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &watch{os.NewFile(uintptr(fd), "inotify")}
	// By the descriptor: the path may name another folder by now.
	path := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	const what = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, path, what); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return w, nil
}

func (w *watch) Close() error { return w.f.Close() }

// follow gives changes until ctx ends. The channel is closed when the folder is gone. Without a watch
// nothing comes.
func (w *watch) follow(ctx context.Context) <-chan []change {
	out := make(chan []change)
	if w == nil {
		return out
	}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := w.f.Read(buf)
			list, gone := parseInotify(buf[:max(n, 0)])
			if len(list) > 0 {
				select {
				case out <- list:
				case <-ctx.Done():
					return
				}
			}
			if err != nil || gone {
				if ctx.Err() == nil {
					close(out)
				}
				return
			}
		}
	}()
	return out
}

// parseInotify takes the events of a read apart: struct inotify_event of inotify(7), in the
// machine's own order.
func parseInotify(p []byte) (list []change, gone bool) {
	for len(p) >= unix.SizeofInotifyEvent {
		mask, n := binary.NativeEndian.Uint32(p[4:]), int(binary.NativeEndian.Uint32(p[12:]))
		if n < 0 || n > len(p)-unix.SizeofInotifyEvent {
			break
		}
		name := p[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+n]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		p = p[unix.SizeofInotifyEvent+n:]
		gone = gone || mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0
		c := change{
			name: string(name), made: mask&unix.IN_CREATE != 0 && mask&unix.IN_ISDIR == 0, closed: mask&(unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO) != 0,
			gone: mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0, all: mask&unix.IN_Q_OVERFLOW != 0,
		}
		if c != (change{name: c.name}) {
			list = append(list, c)
		}
	}
	return list, gone
}
