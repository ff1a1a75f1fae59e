package bpf_test

import (
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What of io_uring(7) one connect needs.
type (
	ringOffsetsSQ struct{ head, tail, mask, entries, flags, dropped, array, r1, addr1, addr2 uint32 }
	ringOffsetsCQ struct{ head, tail, mask, entries, overflow, cqes, flags, r1, addr1, addr2 uint32 }
	ringParams    struct {
		sq, cq, flags, cpu, idle, features, wq uint32
		r                                      [3]uint32
		sqOff                                  ringOffsetsSQ
		cqOff                                  ringOffsetsCQ
	}
	ringEntry struct {
		op, flags byte
		prio      uint16
		fd        int32
		off, addr uint64
		n, op2    uint32
		user      uint64
		pad       [3]uint64
	}
)

const (
	opConnect     = 16
	ringSQ        = 0
	ringCQ        = 0x8000000
	ringSQEs      = 0x10000000
	enterGet      = 1
	ringSetup     = 425
	ringEnter     = 426
	ringEntrySize = 64
)

// ringConnect connects by io_uring: no connect system call is made.
func ringConnect(to netip.AddrPort) error {
	return open(to, unix.SOCK_STREAM, 0, func(fd int, _ unix.Sockaddr) error {
		var p ringParams
		ring, _, no := unix.Syscall(ringSetup, 1, uintptr(unsafe.Pointer(&p)), 0)
		if no != 0 {
			return no
		}
		defer unix.Close(int(ring))
		raw := inet4(to)
		defer runtime.KeepAlive(&raw)
		e := ringEntry{op: opConnect, fd: int32(fd), addr: uint64(uintptr(unsafe.Pointer(&raw))), off: unix.SizeofSockaddrInet4}
		return ringSubmit(int(ring), &p, e)
	})
}

func ringSubmit(ring int, p *ringParams, e ringEntry) error {
	sq, err := unix.Mmap(ring, ringSQ, int(p.sqOff.array+4*p.sq), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(sq)
	cq, err := unix.Mmap(ring, ringCQ, int(p.cqOff.cqes+16*p.cq), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(cq)
	sqes, err := unix.Mmap(ring, ringSQEs, ringEntrySize*int(p.sq), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(sqes)
	*(*ringEntry)(unsafe.Pointer(&sqes[0])) = e
	*(*uint32)(unsafe.Pointer(&sq[p.sqOff.array])) = 0
	*(*uint32)(unsafe.Pointer(&sq[p.sqOff.tail])) = 1
	if _, _, no := unix.Syscall6(ringEnter, uintptr(ring), 1, 0, enterGet, 0, 0); no != 0 {
		return no
	}
	if *(*uint32)(unsafe.Pointer(&cq[p.cqOff.tail])) == 0 {
		return unix.EINPROGRESS
	}
	if result := *(*int32)(unsafe.Pointer(&cq[p.cqOff.cqes+8])); result < 0 {
		return unix.Errno(-result)
	}
	return nil
}
