package bpf_test

import (
	"strings"

	"holdfast/firmware/netlock/bpf"
)

// guard closes a cgroup, "" for none, and the links whose indices are the lines that it gets. The
// test kills it.
func guard(cgroup string) (func(string) string, func()) {
	return func(line string) string {
		if cgroup != "" {
			if _, err := bpf.NewCgroup(cgroup); err != nil {
				return err.Error()
			}
		}
		return strings.TrimSpace("closed " + line)
	}, func() {}
}
