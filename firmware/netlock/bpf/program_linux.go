package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// license of the programs: they call no helper that is for GPL code alone.
const license = "Apache-2.0"

// place is one hook and where its program goes.
type place struct {
	hook   Hook
	name   string // of the program in the kernel, at most 15 bytes
	typ    ebpf.ProgramType
	attach ebpf.AttachType
	code   func(*kit, Hook) asm.Instructions
}

// twins are two equal programs. One is attached; where it is not the one that decides any more,
// the other one is attached in the right position before the first is taken away.
type twins struct {
	place
	progs [2]*ebpf.Program
	ids   [2]ebpf.ProgramID
}

// loadAll loads the programs of places over s. On an error nothing is left loaded.
func loadAll(places []place, s *state) (all []twins, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
			all = nil
		}
	}()
	k := &kit{drops: s.drops, lost: s.lost, ring: s.ring}
	if k.ns, err = ownNamespace(); err != nil {
		return nil, err
	}
	for _, p := range places {
		t := twins{place: p}
		for i := range t.progs {
			if t.progs[i], t.ids[i], err = load1(k, p); err != nil {
				closeAll(append(all, t))
				return all, fmt.Errorf("program %s: %w", p.hook, err)
			}
		}
		all = append(all, t)
		s.hold(t.progs[0])
		s.hold(t.progs[1])
	}
	return all, nil
}

func load1(k *kit, p place) (*ebpf.Program, ebpf.ProgramID, error) {
	prog, err := load2(k, p)
	if err != nil && k.ns != (namespace{}) && !k.noPID {
		// Before Linux 6.10 these programs cannot ask for the numbers of a namespace.
		k.noPID = true
		prog, err = load2(k, p)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := prog.Info()
	if err == nil {
		if id, ok := info.ID(); ok {
			return prog, id, nil
		}
		err = errors.New("the kernel tells no number of a program") // Linux before 4.13
	}
	_ = prog.Close()
	return nil, 0, err
}

func load2(k *kit, p place) (prog *ebpf.Program, err error) {
	err = withMemlock(func() error {
		prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: p.name, Type: p.typ, AttachType: p.attach, License: license, Instructions: p.code(k, p.hook),
		})
		return err
	})
	return prog, err
}

func closeAll(all []twins) {
	for _, t := range all {
		for _, p := range t.progs {
			if p != nil {
				_ = p.Close() // a descriptor; what is attached stays attached
			}
		}
	}
}

// firstNamespace is the inode of the machine's first PID namespace (PROC_PID_INIT_INO).
const firstNamespace = 0xeffffffc

// ownNamespace returns the PID namespace of this process; zero if it is the first one.
func ownNamespace() (namespace, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return namespace{}, &os.PathError{Op: "stat", Path: "/proc/self/ns/pid", Err: err}
	}
	if st.Ino == firstNamespace {
		return namespace{}, nil
	}
	// The kernel's own form of a device number has 20 bits of minor.
	dev := uint64(unix.Major(uint64(st.Dev)))<<20 | uint64(unix.Minor(uint64(st.Dev)))
	return namespace{dev: dev, ino: uint64(st.Ino)}, nil
}

// which tells which twin a program is: 0, 1, or -1 for none.
func (t *twins) which(id ebpf.ProgramID) int {
	for i := range t.ids {
		if t.ids[i] == id {
			return i
		}
	}
	return -1
}

// ours tells whether a program is one of this package's, by its name: of this process or of one
// before it.
func (t *twins) ours(id ebpf.ProgramID) bool {
	if t.which(id) >= 0 {
		return true
	}
	return programName(id) == t.name
}

func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

// attached lists the programs at a hook in the order in which they run. target is a descriptor
// of a cgroup or the index of a link.
func attached(target int, at ebpf.AttachType) ([]ebpf.ProgramID, error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: target, Attach: at})
	if err != nil {
		return nil, err
	}
	ids := make([]ebpf.ProgramID, len(r.Programs))
	for i, p := range r.Programs {
		ids[i] = p.ID
	}
	return ids, nil
}

// detach takes a program away by its number.
func detach(target int, at ebpf.AttachType, id ebpf.ProgramID) error {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer p.Close()
	return link.RawDetachProgram(link.RawDetachProgramOptions{Target: target, Attach: at, Program: p})
}

// oldPrograms lists those of all places' programs that are attached at a target.
func oldPrograms(target int, places []place) []ebpf.ProgramID {
	var old []ebpf.ProgramID
	for _, p := range places {
		ids, _ := attached(target, p.attach) // an error shows when it is attached to
		for _, id := range ids {
			if programName(id) == p.name {
				old = append(old, id)
			}
		}
	}
	return old
}
