package bpf

// NewSilent is NewCgroup on a kernel without ring buffers.
func NewSilent(path string) (*Cgroup, error) { return newCgroup(path, 0) }
