package netaudit

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// An AF_XDP socket (the kernel's documentation, networking/af_xdp), as much of it as sending
// one frame needs, in the mode that every driver has (copy).

const (
	xdpFrames = 4
	xdpSize   = 4096
)

// newXDP opens one on a link. memory holds its frames: shared, so that it can be handed on.
func newXDP(memory *os.File, index int) (int, error) {
	if err := memory.Truncate(xdpFrames * xdpSize); err != nil {
		return -1, err
	}
	area, err := unix.Mmap(int(memory.Fd()), 0, xdpFrames*xdpSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return -1, err
	}
	defer unix.Munmap(area) // the kernel has the pages
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = bindXDP(fd, area, index)
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func bindXDP(fd int, area []byte, index int) error {
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&area[0]))), Len: uint64(len(area)), Size: xdpSize}
	if err := setsockopt(fd, unix.SOL_XDP, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
		return fmt.Errorf("memory for frames: %w", err)
	}
	for _, option := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_XDP, option, xdpFrames); err != nil {
			return fmt.Errorf("ring: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(index)}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

func setsockopt(fd, level, option int, p unsafe.Pointer, size uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(p), size, 0); errno != 0 {
		return errno
	}
	return nil
}

// sendXDP puts frame into memory and the ring, and wakes the kernel.
func sendXDP(fd int, memory *os.File, frame []byte) error {
	if _, err := memory.WriteAt(frame, 0); err != nil {
		return err
	}
	var offsets unix.XDPMmapOffsets
	size := uint32(unsafe.Sizeof(offsets))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS, uintptr(unsafe.Pointer(&offsets)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return fmt.Errorf("offsets: %w", errno)
	}
	tx := offsets.Tx
	ring, err := unix.Mmap(fd, unix.XDP_PGOFF_TX_RING, int(tx.Desc)+xdpFrames*int(unsafe.Sizeof(unix.XDPDesc{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	defer unix.Munmap(ring)
	producer := (*uint32)(unsafe.Pointer(&ring[tx.Producer]))
	at := atomic.LoadUint32(producer)
	slot := int(tx.Desc) + int(at%xdpFrames)*int(unsafe.Sizeof(unix.XDPDesc{}))
	*(*unix.XDPDesc)(unsafe.Pointer(&ring[slot])) = unix.XDPDesc{Len: uint32(len(frame))}
	atomic.StoreUint32(producer, at+1)
	return unix.Sendto(fd, nil, unix.MSG_DONTWAIT, nil)
}

// memoryFile is a file in memory.
func (t *trial) memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("frames", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "frames")
	t.deferred(func() { f.Close() })
	return f, nil
}

// openXDP opens one on a link for this attack.
func (t *trial) openXDP(link string) (int, *os.File, error) {
	index, err := linkIndex(link)
	if err != nil {
		return -1, nil, err
	}
	memory, err := t.memoryFile()
	if err != nil {
		return -1, nil, err
	}
	fd, err := newXDP(memory, index)
	if err != nil {
		return -1, nil, err
	}
	t.deferred(func() { unix.Close(fd) })
	return fd, memory, nil
}

// xdpSend uses a link of its own: a queue of a link has one such socket.
func xdpSend(t *trial) error {
	fd, memory, err := t.openXDP(t.own(""))
	if err != nil {
		return err
	}
	return sendXDP(fd, memory, t.private(wire.MAC(t.id)))
}
