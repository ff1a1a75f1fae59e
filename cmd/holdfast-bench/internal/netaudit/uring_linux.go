package netaudit

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A ring of io_uring(7), as much of it as one request needs. Layouts are those of
// include/uapi/linux/io_uring.h, which x/sys/unix does not have.

type ringOffsets struct {
	head, tail, mask, entries, flags, dropped, array, resv uint32
	user                                                   uint64
}

type ringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	resv                                                 [3]uint32
	sq, cq                                               ringOffsets
}

type ringEntry struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	off, addr     uint64
	length, op    uint32
	user          uint64
	buf, pers     uint16
	file          int32
	pad           [2]uint64
}

// Operations and offsets.
const (
	ringSendMsg = 9
	ringConn    = 16
	ringSock    = 45

	ringSQ      = 0
	ringSQEs    = 0x10000000
	ringSingle  = 1 // feature: both rings in one mapping
	ringEntries = 4
)

type ring struct {
	fd     int
	params ringParams
	rings  []byte
	sqes   []byte
}

func newRing(t *trial) (*ring, error) {
	r := &ring{}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&r.params)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r.fd = int(fd)
	t.deferred(func() { unix.Close(r.fd) })
	if r.params.features&ringSingle == 0 {
		return nil, fmt.Errorf("io_uring: %w", unix.EOPNOTSUPP)
	}
	p := &r.params
	size := max(p.sq.array+p.sqEntries*4, p.cq.user32()+p.cqEntries*16)
	var err error
	if r.rings, err = unix.Mmap(r.fd, ringSQ, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, err
	}
	t.deferred(func() { _ = unix.Munmap(r.rings) })
	if r.sqes, err = unix.Mmap(r.fd, ringSQEs, int(p.sqEntries)*64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, err
	}
	t.deferred(func() { _ = unix.Munmap(r.sqes) })
	return r, nil
}

// user32: for the completion ring the field after overflow is where its entries begin.
func (o *ringOffsets) user32() uint32 { return o.dropped }

func (r *ring) word(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }

// do makes one request and returns its result.
func (r *ring) do(e ringEntry) (int32, error) {
	p := &r.params
	tail := atomic.LoadUint32(r.word(p.sq.tail))
	slot := tail & *r.word(p.sq.mask)
	*(*ringEntry)(unsafe.Pointer(&r.sqes[slot*64])) = e
	*r.word(p.sq.array + slot*4) = slot
	atomic.StoreUint32(r.word(p.sq.tail), tail+1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), 1, 0, 0, 0, 0); errno != 0 {
		return 0, fmt.Errorf("io_uring_enter: %w", errno)
	}
	// The ring's descriptor is readable when an answer is there: a wait that ends.
	if err := await(r.fd, unix.POLLIN); err != nil {
		return 0, err
	}
	head := atomic.LoadUint32(r.word(p.cq.head))
	entry := p.cq.user32() + head&*r.word(p.cq.mask)*16
	result := int32(*r.word(entry + 8))
	atomic.StoreUint32(r.word(p.cq.head), head+1)
	if result < 0 {
		return 0, unix.Errno(-result)
	}
	return result, nil
}

func noRing() string {
	var p ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	switch errno {
	case 0:
		unix.Close(int(fd))
		return ""
	case unix.ENOSYS:
		return "the kernel has no io_uring"
	case unix.EPERM:
		return "io_uring is switched off on this machine"
	}
	return ""
}

// rawInet4 is a sockaddr_in.
func rawInet4(a netip.AddrPort) *unix.RawSockaddrInet4 {
	sa := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	port[0], port[1] = byte(a.Port()>>8), byte(a.Port())
	return sa
}

func ringSend(t *trial) error {
	r, err := newRing(t)
	if err != nil {
		return err
	}
	fd, err := t.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	payload, to := t.mark(), rawInet4(sinkOf(t.far4()))
	vector := &unix.Iovec{Base: &payload[0]}
	vector.SetLen(len(payload))
	message := &unix.Msghdr{Name: (*byte)(unsafe.Pointer(to)), Namelen: unix.SizeofSockaddrInet4, Iov: vector}
	message.SetIovlen(1)
	_, err = r.do(ringEntry{opcode: ringSendMsg, fd: int32(fd), addr: uint64(uintptr(unsafe.Pointer(message))), length: 1})
	runtime.KeepAlive(message)
	runtime.KeepAlive(to)
	return err
}

func ringConnect(t *trial) error {
	r, err := newRing(t)
	if err != nil {
		return err
	}
	fd, err := r.do(ringEntry{opcode: ringSock, fd: unix.AF_INET, off: unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC})
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	t.deferred(func() { unix.Close(int(fd)) })
	to := rawInet4(sinkOf(t.far4()))
	_, err = r.do(ringEntry{opcode: ringConn, fd: fd, addr: uint64(uintptr(unsafe.Pointer(to))), off: unix.SizeofSockaddrInet4})
	runtime.KeepAlive(to)
	return err
}

// sendmmsg sends payload n times in one call.
func sendmmsg(fd int, to netip.AddrPort, payload []byte, n int) error {
	type mmsghdr struct {
		unix.Msghdr
		sent uint32
		_    [unsafe.Sizeof(uintptr(0)) - 4]byte
	}
	sa := rawInet4(to)
	vector := &unix.Iovec{Base: &payload[0]}
	vector.SetLen(len(payload))
	all := make([]mmsghdr, n)
	for i := range all {
		all[i].Name, all[i].Namelen, all[i].Iov = (*byte)(unsafe.Pointer(sa)), unix.SizeofSockaddrInet4, vector
		all[i].SetIovlen(1)
	}
	_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&all[0])), uintptr(n), 0, 0, 0)
	runtime.KeepAlive(sa)
	runtime.KeepAlive(vector)
	if errno != 0 {
		return errno
	}
	return nil
}
