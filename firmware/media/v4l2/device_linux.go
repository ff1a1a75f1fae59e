package v4l2

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is a device of the kernel. Wake may be called from any goroutine.
type File struct {
	fd   int
	wake int // eventfd(2)
}

// Open opens a device by its name, or by a symbolic link to it, such as those of /dev/v4l/by-id.
func Open(path string) (*File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrNoCamera), err, unix.Close(fd))
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &File{fd, wake}, nil
}

// Ioctl implements Device.
func (f *File) Ioctl(request uint32, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		case unix.EAGAIN:
			return ErrAgain
		case unix.ENODEV, unix.EIO:
			return fmt.Errorf("%w: %w", ErrGone, errno)
		default:
			return errno
		}
	}
}

// Map implements Device.
func (f *File) Map(offset int64, length int) ([]byte, error) {
	return unix.Mmap(f.fd, offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// Unmap implements Device.
func (f *File) Unmap(p []byte) error { return unix.Munmap(p) }

// Wait implements Device.
func (f *File) Wait(most time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}, {Fd: int32(f.wake), Events: unix.POLLIN}}
	end := time.Now().Add(most)
	for {
		n, err := unix.Poll(fds, int(max(time.Until(end).Milliseconds(), 0)))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return ErrSilent
		case fds[1].Revents != 0:
			return ErrWoken
		case fds[0].Revents&unix.POLLIN != 0:
			return nil
		}
		return ErrGone
	}
}

// Wake ends a Wait, and each one after it.
func (f *File) Wake() {
	one := [8]byte{1} // on a machine of the other order it is another number, and as good
	_, _ = unix.Write(f.wake, one[:])
}

// Close implements Device.
func (f *File) Close() error { return errors.Join(unix.Close(f.fd), unix.Close(f.wake)) }
