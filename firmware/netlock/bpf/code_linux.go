package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Fields of the kernel's contexts, in bytes (linux/bpf.h: bpf_sock_addr, bpf_sock, __sk_buff).
const (
	addrIP4    = 4
	addrIP6    = 8
	addrPort   = 24
	addrFamily = 28
	addrType   = 32
	addrProto  = 36
	addrSource = 40 // IPv4, of sendmsg

	sockFamily = 4
	sockType   = 8
	sockProto  = 12

	skbProtocol = 16 // EtherType, network order
	skbIfindex  = 40
	skbSock     = 168
)

// Verdicts.
const (
	cgroupRefuse = 0
	cgroupPass   = 1
	tcDrop       = 2 // TC_ACT_SHOT, TCX_DROP
)

// loopback is the index of lo: in every network namespace it is the first link.
const loopback = 1

// The stack of a program, below R10. The record lies at its top.
const (
	stackKey    = -recordSize - 8  // 4: key of a map
	stackNS     = -recordSize - 16 // 8: struct bpf_pidns_info
	stackHeader = -recordSize - 24 // 2: a field of a packet's header
)

// fromNetwork is BPF_HDR_START_NET: offsets count from the IP header.
const fromNetwork = 1

// namespace is a PID namespace, as bpf_get_ns_current_pid_tgid wants it. The zero one is the
// machine's first.
type namespace struct{ dev, ino uint64 }

// kit is what the code of a program needs to know.
type kit struct {
	drops, lost, ring *ebpf.Map // ring is nil on a kernel without ring buffers: nothing is reported
	ns                namespace
	noPID             bool // process numbers of this kernel mean nothing to the reader
}

func record(off int16) int16 { return off - recordSize }

// count adds one to the counter of h in m. It uses R0 to R5.
func count(m *ebpf.Map, h Hook, label string) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, stackKey, int64(h), asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackKey),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, label),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		// A label needs an instruction of its own.
		asm.Mov.Imm(asm.R0, 0).WithSymbol(label),
	}
}

// refuse counts, reports what fill finds in the context (R6), and ends with verdict.
func (k *kit) refuse(h Hook, verdict int32, fill ...asm.Instruction) asm.Instructions {
	code := count(k.drops, h, "counted")
	if k.ring != nil && fill != nil {
		code = append(code, begin(h)...)
		code = append(code, fill...)
		code = append(code, k.submit(h)...)
	}
	return append(code, asm.Mov.Imm(asm.R0, verdict), asm.Return())
}

// begin clears the record and stamps it.
func begin(h Hook) asm.Instructions {
	code := asm.Instructions{asm.Mov.Imm(asm.R1, 0)}
	for off := int16(0); off < recordSize; off += 8 {
		code = append(code, asm.StoreMem(asm.RFP, record(off), asm.R1, asm.DWord))
	}
	return append(code,
		asm.StoreImm(asm.RFP, record(offHook), int64(h), asm.Byte),
		asm.StoreImm(asm.RFP, record(offUID), -1, asm.Word),
		asm.FnKtimeGetBootNs.Call(),
		asm.StoreMem(asm.RFP, record(offNsec), asm.R0, asm.DWord),
	)
}

// submit hands the record to the reader. What does not fit is counted.
func (k *kit) submit(h Hook) asm.Instructions {
	code := asm.Instructions{
		asm.LoadMapPtr(asm.R1, k.ring.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -recordSize),
		asm.Mov.Imm(asm.R3, recordSize),
		asm.Mov.Imm(asm.R4, 0), // wakes the reader unless it has more to read anyway
		asm.FnRingbufOutput.Call(),
		asm.JEq.Imm(asm.R0, 0, "submitted"),
	}
	code = append(code, count(k.lost, h, "lost")...)
	return append(code, asm.Mov.Imm(asm.R0, 0).WithSymbol("submitted"))
}

// who fills in the process that runs now. The hooks that use it run in a system call.
func (k *kit) who() asm.Instructions {
	code := asm.Instructions{
		asm.FnGetCurrentUidGid.Call(),
		asm.StoreMem(asm.RFP, record(offUID), asm.R0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(record(offComm))),
		asm.Mov.Imm(asm.R2, 16),
		asm.FnGetCurrentComm.Call(),
	}
	switch {
	case k.noPID:
		return code
	case k.ns != namespace{}:
		return append(code, k.pidOfNamespace()...)
	}
	return append(code,
		asm.FnGetCurrentPidTgid.Call(),
		asm.StoreMem(asm.RFP, record(offTID), asm.R0, asm.Word),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, record(offPID), asm.R0, asm.Word),
	)
}

// pidOfNamespace fills in the numbers that the reader's PID namespace has for the process. The
// numbers of the first namespace would name other processes there.
func (k *kit) pidOfNamespace() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, stackNS, asm.R1, asm.DWord),
		asm.LoadImm(asm.R1, int64(k.ns.dev), asm.DWord),
		asm.LoadImm(asm.R2, int64(k.ns.ino), asm.DWord),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackNS),
		asm.Mov.Imm(asm.R4, 8),
		asm.FnGetNsCurrentPidTgid.Call(),
		asm.JNE.Imm(asm.R0, 0, "elsewhere"),
		asm.LoadMem(asm.R1, asm.RFP, stackNS, asm.Word),
		asm.StoreMem(asm.RFP, record(offTID), asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, stackNS+4, asm.Word),
		asm.StoreMem(asm.RFP, record(offPID), asm.R1, asm.Word),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("elsewhere"),
	}
}

// copyWord copies 4 bytes of the context to the record, or fewer of them.
func copyWord(ctx, to int16, size asm.Size) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R6, ctx, asm.Word),
		asm.StoreMem(asm.RFP, record(to), asm.R1, size),
	}
}

func keepContext(code ...asm.Instruction) asm.Instructions {
	return append(asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}, code...)
}

// finish ends a program of a cgroup: what jumped to "pass" passes.
func finish(parts ...asm.Instructions) asm.Instructions {
	var code asm.Instructions
	for _, p := range parts {
		code = append(code, p...)
	}
	return append(code, asm.Mov.Imm(asm.R0, cgroupPass).WithSymbol("pass"), asm.Return())
}

// address4 is the code of connect4, sendmsg4 and bind4. Loopback passes, and 0.0.0.0: as a
// destination the kernel takes it for loopback, and a program that binds to it wants whatever
// comes, which is loopback alone.
func (k *kit) address4(h Hook) asm.Instructions {
	look := keepContext(
		asm.LoadMem(asm.R1, asm.R6, addrIP4, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "pass"),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 24),
		asm.JEq.Imm(asm.R2, 127, "pass"),
	)
	if h == Sendmsg4 {
		look = append(look, multicast4()...)
	}
	fill := asm.Instructions{asm.StoreImm(asm.RFP, record(offFamily), familyIPv4, asm.Byte)}
	fill = append(fill, copyWord(addrIP4, offAddr, asm.Word)...)
	return finish(look, k.refuse(h, cgroupRefuse, append(fill, k.addressRest()...)...))
}

// multicast4 lets a group pass that a socket bound to loopback sends to: so programs of the same
// board find each other (DDS, ROS 2). The kernel sends nothing from such an address by another
// link than lo, whatever link the socket names for its groups. R1 is the destination.
func multicast4() asm.Instructions {
	return asm.Instructions{
		asm.RSh.Imm(asm.R1, 28),
		asm.JNE.Imm(asm.R1, 0xe, "unicast"),
		asm.LoadMem(asm.R1, asm.R6, addrSource, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.RSh.Imm(asm.R1, 24),
		asm.JEq.Imm(asm.R1, 127, "pass"),
		asm.Mov.Imm(asm.R1, 0).WithSymbol("unicast"),
	}
}

// address6 is the same for IPv6: ::1, :: and the mapped addresses of IPv4 loopback pass.
func (k *kit) address6(h Hook) asm.Instructions {
	look := keepContext(
		asm.LoadMem(asm.R1, asm.R6, addrIP6, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "refuse"),
		asm.LoadMem(asm.R1, asm.R6, addrIP6+4, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "refuse"),
		asm.LoadMem(asm.R2, asm.R6, addrIP6+12, asm.Word),
		asm.HostTo(asm.BE, asm.R2, asm.Word),
		asm.LoadMem(asm.R1, asm.R6, addrIP6+8, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "native"),
		asm.JNE.Imm(asm.R1, 0xffff, "refuse"),
		asm.JEq.Imm(asm.R2, 0, "pass"), // ::ffff:0.0.0.0
		asm.RSh.Imm(asm.R2, 24),
		asm.JEq.Imm(asm.R2, 127, "pass"),
		asm.Ja.Label("refuse"),
		asm.JLE.Imm(asm.R2, 1, "pass").WithSymbol("native"), // :: and ::1
		asm.Mov.Imm(asm.R1, 0).WithSymbol("refuse"),
	)
	fill := asm.Instructions{asm.StoreImm(asm.RFP, record(offFamily), familyIPv6, asm.Byte)}
	for i := int16(0); i < 16; i += 4 {
		fill = append(fill, copyWord(addrIP6+i, offAddr+i, asm.Word)...)
	}
	return finish(look, k.refuse(h, cgroupRefuse, append(fill, k.addressRest()...)...))
}

func (k *kit) addressRest() asm.Instructions {
	fill := copyWord(addrPort, offPort, asm.Half)
	fill = append(fill, copyWord(addrProto, offProto, asm.Word)...)
	fill = append(fill, copyWord(addrType, offType, asm.Word)...)
	return append(fill, k.who()...)
}

// socket refuses IPv4 and IPv6 sockets that are neither TCP nor UDP. Other families do not come
// here. MPTCP passes: its flows are TCP sockets, which connect and egress see.
func (k *kit) socket(h Hook) asm.Instructions {
	look := keepContext(
		asm.LoadMem(asm.R1, asm.R6, sockType, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, sockProto, asm.Word),
		asm.JEq.Imm(asm.R1, typeStream, "stream"),
		asm.JNE.Imm(asm.R1, typeDatagram, "refuse"),
		asm.JEq.Imm(asm.R2, 17, "pass"),
		asm.Ja.Label("refuse"),
		asm.JEq.Imm(asm.R2, 6, "pass").WithSymbol("stream"),
		asm.JEq.Imm(asm.R2, 262, "pass"),
		asm.Mov.Imm(asm.R1, 0).WithSymbol("refuse"),
	)
	fill := copyWord(sockFamily, offFamily, asm.Byte)
	fill = append(fill, copyWord(sockType, offType, asm.Word)...)
	fill = append(fill, copyWord(sockProto, offProto, asm.Word)...)
	return finish(look, k.refuse(h, cgroupRefuse, append(fill, k.who()...)...))
}

// onLoopback jumps to "pass" if the packet is on lo. Addresses do not decide here: routing
// headers, source routes and options of a socket lead elsewhere.
func onLoopback() asm.Instructions {
	return keepContext(
		asm.LoadMem(asm.R1, asm.R6, skbIfindex, asm.Word),
		asm.JEq.Imm(asm.R1, loopback, "pass"),
	)
}

func (k *kit) egress(h Hook) asm.Instructions {
	return finish(onLoopback(), k.refuse(h, cgroupRefuse, k.packet()...))
}

// ingress counts and reports nothing: what others send to the board is nobody's attempt on it,
// and whoever floods the board must not fill the buffer.
func (k *kit) ingress(h Hook) asm.Instructions {
	return finish(onLoopback(), k.refuse(h, cgroupRefuse))
}

func (k *kit) tcEgress(h Hook) asm.Instructions {
	return append(keepContext(), k.refuse(h, tcDrop, k.packet()...)...)
}

func (k *kit) tcIngress(h Hook) asm.Instructions {
	return append(keepContext(), k.refuse(h, tcDrop)...)
}
