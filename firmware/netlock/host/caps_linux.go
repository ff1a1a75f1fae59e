package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Powers is a set of capabilities (capabilities(7)): bit n for number n.
type Powers uint64

// The powers that go past the network lock.
const (
	NetAdmin  Powers = 1 << unix.CAP_NET_ADMIN
	NetRaw    Powers = 1 << unix.CAP_NET_RAW
	SysModule Powers = 1 << unix.CAP_SYS_MODULE
	SysRawIO  Powers = 1 << unix.CAP_SYS_RAWIO
	SysPtrace Powers = 1 << unix.CAP_SYS_PTRACE
	SysAdmin  Powers = 1 << unix.CAP_SYS_ADMIN
	BPF       Powers = 1 << unix.CAP_BPF

	PastTheLock = NetAdmin | NetRaw | SysModule | SysRawIO | SysPtrace | SysAdmin | BPF
)

var powerNames = []struct {
	power Powers
	name  string
}{
	{NetAdmin, "CAP_NET_ADMIN"}, {NetRaw, "CAP_NET_RAW"}, {BPF, "CAP_BPF"}, {SysAdmin, "CAP_SYS_ADMIN"},
	{SysModule, "CAP_SYS_MODULE"}, {SysPtrace, "CAP_SYS_PTRACE"}, {SysRawIO, "CAP_SYS_RAWIO"},
}

// String lists the powers of PastTheLock that are in p, such as "CAP_NET_RAW CAP_BPF".
func (p Powers) String() string {
	var names []string
	for _, n := range powerNames {
		if p&n.power != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " ")
}

// Exception lets a program have some powers.
type Exception struct {
	Program string // path of the executable, as /proc/PID/exe has it
	Powers  Powers
	// Children lets what the program starts have the same.
	Children bool
	// Kernel: only where the kernel itself started the program.
	Kernel bool
}

// Exceptions returns the programs without which Debian and its kin do not start, with what the
// units of scripts/systemd leave them. Each is explained in docs/units.md.
func Exceptions() []Exception {
	const devices = NetAdmin | SysModule | SysAdmin
	return []Exception{
		{Program: "/usr/bin/udevadm", Powers: devices, Children: true},               // systemd-udevd since 248
		{Program: "/usr/lib/systemd/systemd-udevd", Powers: devices, Children: true}, // and before
		{Program: "/usr/lib/systemd/systemd-modules-load", Powers: SysModule},
		{Program: "/usr/bin/kmod", Powers: SysModule},                                      // modprobe@.service
		{Program: "/usr/bin/kmod", Powers: PastTheLock, Kernel: true},                      // the kernel asks for a module
		{Program: "/usr/lib/systemd/systemd-remount-fs", Powers: SysAdmin, Children: true}, // it runs mount
		{Program: "/usr/lib/systemd/systemd-sysctl", Powers: SysAdmin | SysPtrace},
		{Program: "/usr/lib/systemd/systemd-cryptsetup", Powers: SysAdmin},
		{Program: "/usr/bin/systemd-machine-id-setup", Powers: SysAdmin},
		{Program: "/usr/bin/mount", Powers: SysAdmin, Children: true}, // mount units
		{Program: "/usr/bin/umount", Powers: SysAdmin, Children: true},
	}
}

// CapabilityOptions replaces what Capabilities goes by.
type CapabilityOptions struct {
	// Except lists who may have powers. The first process of the machine, what it is about to
	// start, the kernel's own threads, and processes of this program may anyway.
	Except []Exception
	// Now is a clock that is never set back. nil: since the start of the program.
	Now func() time.Duration
	// Self is the process id of the guard. 0: of this process.
	Self int
}

const (
	// settleTime is how old a process must be to count: what a service manager starts has all
	// powers for a moment, before they are taken from it.
	settleTime = 900 * time.Millisecond
	// fullEvery is how often every thread of every process is looked at again.
	fullEvery = 30 * time.Second
)

// Capabilities looks for processes with powers that go past the lock. It takes powers from
// nobody: the units of scripts/systemd do, and the kernel gives none back. A process that has
// no such power, and none in its bounding set, can never get one, nor can its children; so only
// new processes are looked at, and all of them every 30 s.
//
// What a process is root of is no power over the machine where it is in a user namespace of its
// own. What lives for less than a second may not be seen.
type Capabilities struct {
	tree
	o        CapabilityOptions
	program  string
	seen     map[int]seenProcess
	lastFull time.Duration
}

// seenProcess is one that was looked at.
type seenProcess struct {
	inode  uint64 // of its folder in /proc: another process of the same number has another
	since  time.Duration
	powers Powers // that it has and must not have
	Offender
}

// Offender is a process with powers that nobody should have.
type Offender struct {
	PID     int
	UID     int64
	Program string // path of the executable
	Powers  Powers
}

// NewCapabilities makes the layer on the tree below root.
func NewCapabilities(root string, o CapabilityOptions) *Capabilities {
	if o.Now == nil {
		began := time.Now()
		o.Now = func() time.Duration { return time.Since(began) }
	}
	if o.Self == 0 {
		o.Self = os.Getpid()
	}
	c := &Capabilities{tree: tree{root}, o: o, seen: map[int]seenProcess{}, lastFull: -fullEvery}
	c.program, _ = os.Readlink(c.path(c.file(o.Self, "exe")))
	return c
}

// Detect returns ErrAbsent where processes cannot be looked at.
func (c *Capabilities) Detect() error {
	if !c.exists("proc/1/status") {
		return fmt.Errorf("%w: /proc", ErrAbsent)
	}
	return nil
}

// Apply changes nothing.
func (c *Capabilities) Apply() (changes []Change, err error) { return nil, nil }

// Verify names the programs that have powers past the lock.
func (c *Capabilities) Verify() error {
	if err := c.look(); err != nil {
		return err
	}
	const most = 3 // names in the clause
	var list []string
	for _, o := range c.Offenders() {
		s := fmt.Sprintf("%s (%v)", quoted(o.Program), o.Powers)
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	if n := len(list); n > most {
		list = append(list[:most], fmt.Sprintf("%d more", n-most))
	}
	if len(list) == 0 {
		return nil
	}
	return errors.New("powers past the lock: " + strings.Join(list, ", "))
}

// Offenders returns those that the last Verify found, in the order of their numbers.
func (c *Capabilities) Offenders() (list []Offender) {
	now := c.o.Now()
	for _, p := range c.seen {
		if p.powers != 0 && now-p.since >= settleTime {
			list = append(list, p.Offender)
		}
	}
	slices.SortFunc(list, func(a, b Offender) int { return a.PID - b.PID })
	return list
}

func (c *Capabilities) look() error {
	now := c.o.Now()
	full := now-c.lastFull >= fullEvery
	if full {
		c.lastFull = now
	}
	present := make(map[int]seenProcess, len(c.seen))
	err := c.processes(func(pid int, inode uint64) {
		p, known := c.seen[pid]
		if !known || p.inode != inode {
			p, known = seenProcess{inode: inode, since: now}, false
		}
		if !known || full || p.powers != 0 {
			c.judge(pid, &p, full || p.powers != 0)
		}
		present[pid] = p
	})
	if err != nil {
		return err
	}
	c.seen = present
	return nil
}

// file names a file of a process.
func (c *Capabilities) file(pid int, name string) string {
	return "proc/" + strconv.Itoa(pid) + "/" + name
}

// judge finds out what powers a process has that it must not have. One that has ended meanwhile
// has none. One that cannot be looked at has all.
func (c *Capabilities) judge(pid int, p *seenProcess, full bool) {
	p.powers, p.Offender = 0, Offender{PID: pid, UID: -1}
	if pid == 1 || pid == c.o.Self {
		return
	}
	st, err := c.status(c.file(pid, "status"))
	if gone(err) || errors.Is(err, unix.ESRCH) || err == nil && !st.running {
		return
	}
	had := st.powers & PastTheLock
	if err != nil {
		had = PastTheLock
	} else if full {
		had |= c.threads(pid)
	}
	if had == 0 || c.apart(pid) {
		return
	}
	p.Program = c.name(pid)
	p.UID = st.uid
	p.powers = had &^ c.allowed(pid, st.parent)
	p.Powers = p.powers
}

func (c *Capabilities) status(file string) (processStatus, error) {
	text, err := c.read(file)
	if err != nil {
		return processStatus{}, err
	}
	return parseStatus(text)
}

// threads returns the powers of all threads: each has its own.
func (c *Capabilities) threads(pid int) (p Powers) {
	names, _ := c.names(c.file(pid, "task"))
	for _, n := range names {
		if st, err := c.status(c.file(pid, "task/"+n+"/status")); err == nil {
			p |= st.powers & PastTheLock
		}
	}
	return p
}

// apart tells whether the process is in a user namespace other than this one.
func (c *Capabilities) apart(pid int) bool {
	own, err := os.Readlink(c.path("proc/self/ns/user"))
	theirs, errTheirs := os.Readlink(c.path(c.file(pid, "ns/user")))
	return err == nil && errTheirs == nil && own != theirs
}

// name is the path of the executable; where that cannot be told, what the process calls itself.
func (c *Capabilities) name(pid int) string {
	if exe, err := os.Readlink(c.path(c.file(pid, "exe"))); err == nil {
		return exe
	}
	comm, _ := c.read(c.file(pid, "comm"))
	return "[" + comm + "]"
}

// maxAncestors bounds how far up a program is looked for whose children are excepted.
const maxAncestors = 8

// allowed returns the powers that a process may have: for what it is, or for what started it.
func (c *Capabilities) allowed(pid, parent int) (p Powers) {
	program := c.name(pid)
	if program == c.program || c.starting(program, parent) {
		return PastTheLock
	}
	for depth := 0; depth < maxAncestors && pid > 1; depth++ {
		st, err := c.status(c.file(parent, "status"))
		byKernel := err == nil && !st.running
		for _, e := range c.o.Except {
			if e.Program == program && (depth == 0 || e.Children) && (byKernel || !e.Kernel) {
				p |= e.Powers
			}
		}
		if err != nil || byKernel {
			break
		}
		pid, parent = parent, st.parent
		program = c.name(pid)
	}
	return p
}

// starting tells a copy that the first process has made of itself to start a service: it
// prepares that with all powers, and gives up what the service is not to have last of all. A
// copy of that copy stays to close a login's session ("(sd-pam)"). A user's own manager looks
// the same; what that starts does not.
func (c *Capabilities) starting(program string, parent int) bool {
	first, err := os.Readlink(c.path(c.file(1, "exe")))
	if err != nil || program != first {
		return false
	}
	if parent == 1 {
		return true
	}
	st, err := c.status(c.file(parent, "status"))
	return err == nil && st.parent == 1 && c.name(parent) == first
}

// processes calls f with the number of every process and the inode of its folder.
func (c *Capabilities) processes(f func(pid int, inode uint64)) error {
	dir := c.path("proc")
	fd, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, 16<<10)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil {
			return &fs.PathError{Op: "list", Path: dir, Err: err}
		}
		if n == 0 {
			return nil
		}
		eachEntry(buf[:n], func(name []byte, inode uint64) {
			if pid, err := strconv.Atoi(string(name)); err == nil && pid > 0 {
				f(pid, inode)
			}
		})
	}
}
