package firmware

import (
	"net/netip"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"

	"holdfast/firmware/config"
	"holdfast/storage/segment"
)

// Restrict takes from the supervisor what benchRestrict takes from the recorder, which notes what
// the kernel could not do.
func Restrict(cfg *config.Config) { _ = benchRestrict(cfg) }

// benchRestrict takes from this process, for good, what bench mode does not need of the
// network: everything where no link is a tcp: or udp: endpoint; otherwise everything but a
// TCP connection to the ports named, and a UDP socket that only receives. Addresses were held
// to loopback by the configuration. What the kernel cannot restrict is returned as notes for
// the record; it is not fatal on a bench.
func benchRestrict(cfg *config.Config) (notes []segment.Note) {
	tcp, udp := endpoints(cfg)
	if err := loadFilter(tcp, udp); err != nil {
		notes = append(notes, segment.Note{What: "seccomp", Why: err.Error()})
	}
	var rules []landlock.Rule
	for _, port := range tcp {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	// V4 is the first version that knows TCP; asking for it alone, without best effort, tells
	// a kernel that cannot from one that can.
	if err := landlock.V4.RestrictNet(rules...); err != nil {
		notes = append(notes, segment.Note{What: "landlock", Why: err.Error()})
	}
	return notes
}

// endpoints returns the ports of the tcp: links, and whether there is a udp: one.
func endpoints(cfg *config.Config) (tcp []uint16, udp bool) {
	for _, l := range cfg.Link {
		if addr, ok := strings.CutPrefix(l.Device, "tcp:"); ok {
			if a, err := netip.ParseAddrPort(addr); err == nil {
				tcp = append(tcp, a.Port())
			}
		}
		udp = udp || strings.HasPrefix(l.Device, "udp:")
	}
	return tcp, udp
}

func loadFilter(tcp []uint16, udp bool) error {
	deny := []string{"socketpair", "listen", "accept", "accept4", "sendto", "sendmsg", "sendmmsg",
		"io_uring_setup", "bpf", "ptrace", "process_vm_readv", "process_vm_writev", "kexec_load"}
	group := seccomp.SyscallGroup{Action: seccomp.ActionErrno}
	switch {
	case len(tcp) == 0 && !udp:
		deny = append(deny, "socket", "connect", "bind")
	case !udp:
		deny = append(deny, "bind")
		fallthrough
	default:
		if len(tcp) == 0 {
			deny = append(deny, "connect")
		}
		group.NamesWithCondtions = []seccomp.NameWithConditions{{Name: "socket", Conditions: seccomp.ArgumentConditions{
			{Argument: 0, Operation: seccomp.NotEqual, Value: unix.AF_INET},
			{Argument: 0, Operation: seccomp.NotEqual, Value: unix.AF_INET6},
		}}}
	}
	group.Names = deny
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy:     seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{group}},
	})
}
