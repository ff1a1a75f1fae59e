//go:build leak_cgroup_bpf

package netlock

func init() { leaks[CgroupBPF] = true }
