package confine

import (
	"errors"

	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// load holds every thread of this process, and all that it starts, to p.
func load(p seccomp.Policy) error {
	if err := haveFilters(); err != nil {
		return err
	}
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: p})
}

// haveFilters tells whether this kernel has seccomp filters. One without a network stack has
// none: they are programs of the packet filter. A kernel that has them looks for the program,
// which is nowhere.
func haveFilters() error {
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return &missing{"this kernel has no filters of system calls"}
	}
	return nil
}
