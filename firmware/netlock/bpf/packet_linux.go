package bpf

import (
	"github.com/cilium/ebpf/asm"
)

// packet fills in what a packet tells: link, user, protocol and destination. Headers that are
// too short leave their fields empty. R6 is the context, R7 and R8 are used.
func (k *kit) packet() asm.Instructions {
	code := copyWord(skbIfindex, offIfindex, asm.Word)
	code = append(code, owner()...)
	code = append(code,
		asm.LoadMem(asm.R7, asm.R6, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R7, asm.Half),
		asm.JEq.Imm(asm.R7, 0x0800, "ipv4"),
		asm.JEq.Imm(asm.R7, 0x86dd, "ipv6"),
		asm.StoreMem(asm.RFP, record(offProto), asm.R7, asm.Word),
	)
	code = append(code, frame()...)
	code = append(code, asm.Ja.Label("filled"))
	code = append(code, packet4()...)
	code = append(code, asm.Ja.Label("ports"))
	code = append(code, packet6()...)
	code = append(code, ports()...)
	return append(code, asm.Mov.Imm(asm.R0, 0).WithSymbol("filled"))
}

// owner fills in the user of the packet's socket, where it has one.
func owner() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R6, skbSock, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "nobody"),
		asm.FnSkFullsock.Call(),
		asm.JEq.Imm(asm.R0, 0, "nobody"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnGetSocketUid.Call(),
		asm.StoreMem(asm.RFP, record(offUID), asm.R0, asm.Word),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("nobody"),
	}
}

// load copies size bytes at off of the IP header to the stack. If they are not there, it clears
// them, and R0 is not 0.
func load(off int32, stack int16, size int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, off),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(stack)),
		asm.Mov.Imm(asm.R4, size),
		asm.Mov.Imm(asm.R5, fromNetwork),
		asm.FnSkbLoadBytesRelative.Call(),
	}
}

// frame fills in the receiver's MAC address. That is the frame's beginning; on a link without
// such addresses it is whatever stands there.
func frame() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(record(offAddr))),
		asm.Mov.Imm(asm.R4, 6),
		asm.FnSkbLoadBytes.Call(),
	}
}

// packet4 leaves the offset of what follows the IPv4 header in R8, or ends at "filled".
func packet4() asm.Instructions {
	code := asm.Instructions{asm.StoreImm(asm.RFP, record(offFamily), familyIPv4, asm.Byte).WithSymbol("ipv4")}
	code = append(code, load(9, record(offProto), 1)...)
	code = append(code, load(16, record(offAddr), 4)...)
	code = append(code, load(6, stackHeader, 2)...)
	code = append(code,
		asm.LoadMem(asm.R1, asm.RFP, stackHeader, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.And.Imm(asm.R1, 0x1fff),
		asm.JNE.Imm(asm.R1, 0, "filled"), // a later fragment has no ports
	)
	code = append(code, load(0, stackHeader, 2)...)
	return append(code,
		asm.LoadMem(asm.R8, asm.RFP, stackHeader, asm.Byte),
		asm.And.Imm(asm.R8, 0xf),
		asm.LSh.Imm(asm.R8, 2),
	)
}

// packet6 is the same for IPv6. Behind extension headers no ports are looked for.
func packet6() asm.Instructions {
	code := asm.Instructions{asm.StoreImm(asm.RFP, record(offFamily), familyIPv6, asm.Byte).WithSymbol("ipv6")}
	code = append(code, load(6, record(offProto), 1)...)
	code = append(code, load(24, record(offAddr), 16)...)
	return append(code, asm.Mov.Imm(asm.R8, 40))
}

// ports fills in the destination port of the protocols that have one.
func ports() asm.Instructions {
	code := asm.Instructions{asm.LoadMem(asm.R1, asm.RFP, record(offProto), asm.Word).WithSymbol("ports")}
	for _, proto := range []int32{6, 17, 33, 132, 136} {
		code = append(code, asm.JEq.Imm(asm.R1, proto, "port"))
	}
	return append(code,
		asm.Ja.Label("filled"),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("port"),
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.Add.Imm(asm.R2, 2),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(record(offPort))),
		asm.Mov.Imm(asm.R4, 2),
		asm.Mov.Imm(asm.R5, fromNetwork),
		asm.FnSkbLoadBytesRelative.Call(),
	)
}
