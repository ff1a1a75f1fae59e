package bpf_test

import (
	"strconv"

	"holdfast/firmware/netlock/bpf"
)

// guard closes a cgroup when it gets a line. The test kills it.
func guard(cgroup string) (func(string) string, func()) {
	return func(string) string {
		if _, err := bpf.NewCgroup(cgroup); err != nil {
			return err.Error()
		}
		return "closed"
	}, func() {}
}

// closer closes the link whose index is the line that it gets. The test kills it.
func closer(way string) (func(string) string, func()) {
	return func(line string) string {
		ifindex, err := strconv.Atoi(line)
		if err != nil {
			return err.Error()
		}
		tc, err := bpf.NewTC()
		if err != nil {
			return err.Error()
		}
		if way == "clsact" {
			tc.ForceClsact()
		}
		if err := tc.Add(ifindex); err != nil {
			return err.Error()
		}
		return "closed"
	}, func() {}
}
