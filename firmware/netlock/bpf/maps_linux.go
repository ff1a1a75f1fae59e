package bpf

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Sizes of the ring buffers in bytes: powers of two and whole pages, also where a page has
// 64 KiB. They bound what a flood can cost the reader: see pause.
const (
	cgroupRing = 256 << 10
	tcRing     = 64 << 10
)

// counters is the number of entries of each counter map; above hooks, so that a new hook does
// not change the map.
const counters = 16

// state is what outlives a reader in the kernel: counters and the ring buffer. The programs hold
// it, and the next process finds it through them.
type state struct {
	drops *ebpf.Map // refusals by Hook, per CPU
	lost  *ebpf.Map // those that did not fit the ring, per CPU
	given *ebpf.Map // how many of lost the reader was told
	ring  *ebpf.Map // nil: this kernel has none
}

func spec(name string, t ebpf.MapType) *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: name + recordVersion, Type: t, KeySize: 4, ValueSize: 8, MaxEntries: counters}
}

// newState takes over the maps that the programs of old hold, and makes those that are missing.
// ring is the size of the ring buffer; 0 leaves it out.
func newState(old []ebpf.ProgramID, ring uint32) (s *state, err error) {
	s = new(state)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.drops, err = takeOrMake(old, spec("hf_drops", ebpf.PerCPUArray)); err != nil {
		return nil, err
	}
	if s.lost, err = takeOrMake(old, spec("hf_lost", ebpf.PerCPUArray)); err != nil {
		return nil, err
	}
	// Programs still count; nobody sets the counters back. Linux before 5.2 cannot do that.
	_, _ = s.drops.Freeze(), s.lost.Freeze()
	if ring == 0 {
		return s, nil
	}
	if s.given, err = takeOrMake(old, spec("hf_given", ebpf.Array)); err != nil {
		return nil, err
	}
	s.ring, err = takeOrMake(old, &ebpf.MapSpec{Name: "hf_events" + recordVersion, Type: ebpf.RingBuf, MaxEntries: ring})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *state) close() {
	for _, m := range []*ebpf.Map{s.drops, s.lost, s.given, s.ring} {
		if m != nil {
			_ = m.Close() // a descriptor; the programs hold the map
		}
	}
}

// hold makes one of the programs refer to the map of what was given, so that it lives as long as
// the counters do.
func (s *state) hold(p *ebpf.Program) {
	if s.given != nil {
		_ = p.BindMap(s.given) // Linux 5.10; before it the next reader tells of lost ones again
	}
}

// takeOrMake returns a map of the programs that fits, or a new one.
func takeOrMake(old []ebpf.ProgramID, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	for _, id := range old {
		if m := take(id, spec); m != nil {
			return m, nil
		}
	}
	var m *ebpf.Map
	err := withMemlock(func() (err error) {
		m, err = ebpf.NewMap(spec)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", spec.Name, err)
	}
	return m, nil
}

// take returns the map of a program that fits, or nil.
func take(id ebpf.ProgramID, spec *ebpf.MapSpec) *ebpf.Map {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil // it has gone
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue
		}
		if fits(m, spec) {
			return m
		}
		_ = m.Close()
	}
	return nil
}

func fits(m *ebpf.Map, spec *ebpf.MapSpec) bool {
	info, err := m.Info()
	return err == nil && info.Name == spec.Name && info.Type == spec.Type && info.KeySize == spec.KeySize &&
		info.ValueSize == spec.ValueSize && info.MaxEntries == spec.MaxEntries
}

// sum adds a counter over all CPUs.
func sum(m *ebpf.Map, h Hook) (uint64, error) {
	var cpus []uint64
	if err := m.Lookup(uint32(h), &cpus); err != nil {
		return 0, fmt.Errorf("counter %s: %w", h, err)
	}
	var n uint64
	for _, c := range cpus {
		n += c
	}
	return n, nil
}

func sums(m *ebpf.Map, of []Hook) (map[string]uint64, error) {
	all := make(map[string]uint64, len(of))
	for _, h := range of {
		n, err := sum(m, h)
		if err != nil {
			return nil, err
		}
		all[h.String()] = n
	}
	return all, nil
}

// memlock is the limit on locked memory, raised once: Linux before 5.11 counts maps and
// programs against it, and refuses them with EPERM.
var memlock = sync.OnceValue(func() error {
	all := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &all)
})

func withMemlock(do func() error) error {
	err := do()
	if errors.Is(err, unix.EPERM) && memlock() == nil {
		return do()
	}
	return err
}
