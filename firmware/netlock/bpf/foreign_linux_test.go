package bpf_test

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Programs of somebody else, who wants to undo what ours decide.

func foreign(t testing.TB, spec ebpf.ProgramSpec, code ...asm.Instruction) *ebpf.Program {
	t.Helper()
	spec.Instructions, spec.License = code, "GPL"
	p, err := ebpf.NewProgram(&spec)
	if err != nil {
		t.Skipf("this kernel does not take the other program: %v", err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// letPass lets every frame pass (TC_ACT_OK).
func letPass(t testing.TB) *ebpf.Program {
	return foreign(t, ebpf.ProgramSpec{Name: "passes", Type: ebpf.SchedCLS}, asm.Mov.Imm(asm.R0, 0), asm.Return())
}

// takeBack takes the refusal of another program back (bpf_set_retval).
func takeBack(t testing.TB, at ebpf.AttachType) *ebpf.Program {
	return foreign(t, ebpf.ProgramSpec{Name: "takes_back", Type: ebpf.CGroupSockAddr, AttachType: at},
		asm.Mov.Imm(asm.R1, 0), asm.FnSetRetval.Call(), asm.Mov.Imm(asm.R0, 1), asm.Return())
}

func attach(t testing.TB, target int, at ebpf.AttachType, p *ebpf.Program, flags uint32, anchor link.Anchor) {
	t.Helper()
	err := link.RawAttachProgram(link.RawAttachProgramOptions{Target: target, Attach: at, Program: p, Flags: flags, Anchor: anchor})
	if err != nil {
		t.Fatal(err)
	}
}

// attachedAt lists what is attached.
func attachedAt(t testing.TB, target int, at ebpf.AttachType) []ebpf.ProgramID {
	t.Helper()
	r, err := link.QueryPrograms(link.QueryOptions{Target: target, Attach: at})
	if err != nil {
		t.Fatal(err)
	}
	var ids []ebpf.ProgramID
	for _, p := range r.Programs {
		ids = append(ids, p.ID)
	}
	return ids
}

// detachAll takes every program away, as root on the board may.
func detachAll(t testing.TB, target int, at ebpf.AttachType) {
	t.Helper()
	for _, id := range attachedAt(t, target, at) {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		err = link.RawDetachProgram(link.RawDetachProgramOptions{Target: target, Attach: at, Program: p})
		_ = p.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func openCgroup(t testing.TB, path string) int {
	t.Helper()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return int(dir.Fd())
}
