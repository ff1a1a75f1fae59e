package confine_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/firmware/confine"
	"holdfast/firmware/netlock/nstest"
)

// confineEnv makes the test program a process that confines itself as it says, does what it can
// and prints what came of it. The folder to work in is its first argument.
const confineEnv = "CONFINE_AS"

// nothing is a process that ends at once.
const nothing = "nothing"

func TestMain(m *testing.M) {
	if as := os.Getenv(confineEnv); as != "" {
		os.Exit(captive(as, os.Args[1]))
	}
	nstest.Main(m)
}

// captive runs in the process that is confined.
func captive(as, dir string) int {
	runtime.GOMAXPROCS(4)
	o := confine.Options{Write: []string{filepath.Join(dir, "vault")}, Read: []string{filepath.Join(dir, "recipients.txt")}}
	var err error
	switch as {
	case nothing:
		return 0
	case sender:
		sendForAWhile()
		return 0
	case "guard at work":
		if err := guardAtWork(dir); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	case "recorder":
		_, err = confine.Recorder(o)
	case "recorder of a user":
		o.User = "nobody"
		_, err = confine.Recorder(o)
	case "key":
		err = confine.KeyChild()
	case "media":
		_, err = confine.Media(confine.MediaOptions{FIFOs: filepath.Join(dir, "vault"), Programs: []string{"/proc/self/exe"}})
	case "guard":
		_, err = confine.Guard(confine.GuardOptions{})
	}
	if err != nil {
		fmt.Println("confine\t" + err.Error())
		return 1
	}
	for _, a := range attempts(dir) {
		// On threads that were there before, and on new ones.
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			done <- a.try()
		}()
		fmt.Printf("%s\t%s\n", a.what, outcome(<-done))
	}
	return 0
}

// Outcomes of an attempt.
const (
	works   = "works"   // it has done what it should not
	looked  = "looked"  // the kernel has looked at it, and its arguments were no good
	refused = "refused" // as what it is
)

func outcome(err error) string {
	switch {
	case err == nil:
		return works
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS),
		errors.Is(err, unix.EXDEV): // so Landlock says that a file may not be moved elsewhere
		return refused
	}
	return looked
}

type try struct {
	what string
	try  func() error
}

// attempts are ways out of a process.
func attempts(dir string) []try {
	return slices.Concat(socketAttempts(), fileAttempts(dir), programAttempts(), kernelAttempts(dir), ownAttempts(dir))
}

func socketAttempts() (list []try) {
	for _, f := range []struct {
		what         string
		family, kind int
	}{
		{"unix socket", unix.AF_UNIX, unix.SOCK_DGRAM}, {"TCP socket", unix.AF_INET, unix.SOCK_STREAM}, {"UDP socket", unix.AF_INET, unix.SOCK_DGRAM},
		{"IPv6 socket", unix.AF_INET6, unix.SOCK_DGRAM}, {"raw socket", unix.AF_INET, unix.SOCK_RAW}, {"packet socket", unix.AF_PACKET, unix.SOCK_RAW},
		{"netlink socket", unix.AF_NETLINK, unix.SOCK_RAW}, {"bluetooth socket", unix.AF_BLUETOOTH, unix.SOCK_RAW}, {"CAN socket", unix.AF_CAN, unix.SOCK_RAW},
		{"crypto socket", unix.AF_ALG, unix.SOCK_SEQPACKET}, {"XDP socket", unix.AF_XDP, unix.SOCK_RAW}, {"vsock", unix.AF_VSOCK, unix.SOCK_STREAM},
	} {
		list = append(list, try{f.what, func() error {
			fd, err := unix.Socket(f.family, f.kind, unix.IPPROTO_IP)
			return closing(fd, err)
		}})
	}
	return append(list, try{"socket pair", func() error {
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		return err
	}}, try{"network's links", func() error { _, err := net.Interfaces(); return err }},
		try{"io_uring", func() error {
			params := make([]byte, 120)
			return call(unix.SYS_IO_URING_SETUP, 1, pointer(&params[0]))
		}})
}

func fileAttempts(dir string) []try {
	return []try{
		{"reading passwords", func() error { _, err := os.ReadFile("/etc/shadow"); return err }},
		{"reading a file beside the vault", func() error { _, err := os.ReadFile(filepath.Join(dir, "other")); return err }},
		{"writing the recipients", func() error { return os.WriteFile(filepath.Join(dir, "recipients.txt"), nil, 0) }},
		{"cutting the recipients", func() error { return os.Truncate(filepath.Join(dir, "recipients.txt"), 3) }},
		{"a file beside the vault", func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) }},
		{"a folder beside the vault", func() error { return os.Mkdir(filepath.Join(dir, "newdir"), 0o700) }},
		{"moving out of the vault", func() error { return os.Rename(filepath.Join(dir, "vault", "a"), filepath.Join(dir, "a")) }},
		{"linking into the vault", func() error { return os.Link(filepath.Join(dir, "other"), filepath.Join(dir, "vault", "other")) }},
		{"a symbolic link in the vault", func() error { return os.Symlink("/", filepath.Join(dir, "vault", "root")) }},
		{"a pipe in the vault", func() error { return unix.Mkfifo(filepath.Join(dir, "vault", "pipe"), 0o600) }},
		{"a device in the vault", func() error { return unix.Mknod(filepath.Join(dir, "vault", "dev"), unix.S_IFCHR, 0x103) }},
		{"giving a file away", func() error { return os.Lchown(filepath.Join(dir, "vault", "a"), 12, 12) }},
		{"changing a mode", func() error { return os.Chmod(filepath.Join(dir, "vault", "a"), 0o644) }},
		{"removing a file", func() error { return os.Remove(filepath.Join(dir, "doomed")) }},
		{"a sysctl", func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0) }},
		{"another's environment", func() error { _, err := os.ReadFile("/proc/1/environ"); return err }},
		{"the kernel's messages", func() error { f, err := os.Open("/dev/kmsg"); return closeFile(f, err) }},
		{"listing a folder", func() error { _, err := os.ReadDir("/etc"); return err }},
	}
}

func programAttempts() []try {
	return []try{
		{"a shell", func() error { return exec.Command("/bin/sh", "-c", "true").Run() }},
		{"a program in memory", func() error { fd, err := unix.MemfdCreate("x", 0); return closing(fd, err) }},
		{"its own program", func() error { return runSelf() }},
		{"memory to run", func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
			return err
		}},
		{"a namespace", func() error { return unix.Unshare(unix.CLONE_NEWNET) }},
		{"a user namespace", func() error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_THREAD) }},
		{"another's namespace", func() error { return call(unix.SYS_SETNS, ^uintptr(0), 0) }},
		{"another root", func() error { return unix.Chroot("/") }},
	}
}

func kernelAttempts(dir string) []try {
	attr := make([]byte, 128)
	attr[0], attr[4], attr[8], attr[12] = 2, 4, 4, 1 // an array of one
	return []try{
		{"a mount", func() error { return unix.Mount("tmpfs", filepath.Join(dir, "mnt"), "tmpfs", 0, "") }},
		{"a map of the kernel", func() error { return call(unix.SYS_BPF, 0, pointer(&attr[0]), 128) }},
		{"a module", func() error { return unix.FinitModule(-1, "", 0) }},
		{"another kernel", func() error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, ^uintptr(0)) }},
		{"a restart", func() error { return call(unix.SYS_REBOOT, 1, 1, 1) }},
		{"swap", func() error { return call(unix.SYS_SWAPON, pointer(&[]byte("/nowhere\x00")[0]), 0) }},
		{"the clock", func() error {
			bad := unix.Timeval{Usec: -1}
			return call(unix.SYS_SETTIMEOFDAY, uintptr(unsafe.Pointer(&bad)), 0)
		}},
		{"a key ring", func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err }},
		{"page faults", func() error {
			fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, 0, 0, 0)
			return closing(int(fd), asError(errno))
		}},
		{"counters of the processor", func() error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, ^uintptr(0), 0) }},
	}
}

func ownAttempts(dir string) []try {
	return []try{
		{"tracing", func() error { return call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1<<22-1) }},
		{"another's memory", func() error {
			b := make([]byte, 8)
			local := []unix.Iovec{{Base: &b[0], Len: 8}}
			_, err := unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&b[0])), Len: 8}}, 0)
			return err
		}},
		{"another's descriptor", func() error { _, err := unix.PidfdGetfd(-1, 0, 0); return err }},
		{"typing into a terminal", func() error { return typeInto(filepath.Join(dir, "tty")) }},
		{"its capabilities again", func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			data[0].Permitted, data[0].Effective = 1<<unix.CAP_SYS_BOOT, 1<<unix.CAP_SYS_BOOT
			return unix.Capset(&header, &data[0])
		}},
		{"groups", func() error { return call(unix.SYS_SETGROUPS, 0, 0) }},
		{"keeping capabilities", func() error { return unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0) }},
		{"another personality", func() error { return call(unix.SYS_PERSONALITY, 0xffffffff) }},
	}
}

// runSelf starts the test program, which then ends at once.
func runSelf() error {
	cmd := exec.Command("/proc/self/exe", "")
	cmd.Env = []string{confineEnv + "=" + nothing}
	return cmd.Run()
}

// typeInto puts a letter into the input of a terminal.
func typeInto(name string) error {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	letter := byte('x')
	return call(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, pointer(&letter))
}

func pointer(p *byte) uintptr { return uintptr(unsafe.Pointer(p)) }

//go:uintptrescapes
func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return asError(errno)
}

func asError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func closing(fd int, err error) error {
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

func closeFile(f *os.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

// stage makes a folder as the attempts want to find it.
func stage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"vault", "mnt"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"vault/a", "other", "doomed", "recipients.txt"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "mnt"), unix.MNT_DETACH) })
	for d := dir; d != "/"; d = filepath.Dir(d) { // another user has to come here
		if info, err := os.Stat(d); err == nil && info.Mode().Perm()&0o005 != 0o005 {
			if err := os.Chmod(d, info.Mode().Perm()|0o055); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(filepath.Join(dir, "vault"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/ptmx", filepath.Join(dir, "tty")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// captiveProgram builds this test program as the board's programs are built: C's library, which
// the race detector needs, makes calls of its own.
func captiveProgram(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		dir, err := os.MkdirTemp("", "confine")
		if err != nil {
			t.Fatal(err)
		}
		captiveFile = filepath.Join(dir, "captive")
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		cmd := exec.Command("go", "test", "-c", "-vet=off", "-o", captiveFile, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go test -c: %v: %s", err, out)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	})
	return captiveFile
}

var (
	built       sync.Once
	captiveFile string
)

// confined runs the attempts in a process of its own and returns what came of them.
func confined(t *testing.T, as string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), captiveProgram(t), stage(t))
	cmd.Env = append(os.Environ(), confineEnv+"="+as)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", as, err, out)
	}
	results := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		what, result, _ := strings.Cut(lines.Text(), "\t")
		results[what] = result
	}
	return results
}

// TestConfined runs what needs the captive program, which is built once.
func TestConfined(t *testing.T) {
	nstest.Need(t)
	captiveProgram(t)
	t.Run("escapes", testEscapes)
	t.Run("guard", testGuardAtWork)
}

// testEscapes: what is confined is refused everything that the same process can do when it is
// not: without that proof a refusal would say nothing. All of it happens in namespaces of the
// test's own.
func testEscapes(t *testing.T) {
	free := confined(t, "free")
	for as, mayDo := range map[string][]string{
		"recorder":           nil,
		"recorder of a user": nil,
		"key":                nil,
		// What cannot become a way out, and camera programs do.
		"media": {"socket pair", "a shell", "a program in memory", "its own program", "memory to run", "keeping capabilities"},
		"guard": {"netlink socket", "network's links", "a map of the kernel", "a sysctl", "another's environment", "reading passwords",
			"reading a file beside the vault", "writing the recipients", "a file beside the vault", "a folder beside the vault",
			"moving out of the vault", "linking into the vault", "a pipe in the vault", "giving a file away", "changing a mode", "removing a file", "listing a folder"},
	} {
		t.Run(as, func(t *testing.T) {
			proven := 0
			results := confined(t, as)
			if len(results) != len(free) {
				t.Fatalf("%d results, free there are %d: %v", len(results), len(free), results)
			}
			for what, result := range results {
				switch may := slices.Contains(mayDo, what); {
				case free[what] == refused:
					t.Logf("%s: nobody can do it here", what)
				case may && result == refused:
					t.Errorf("%s: refused, and it is needed", what)
				case !may && result != refused:
					t.Errorf("%s: %s", what, result)
				default:
					proven++
				}
			}
			if proven < 45 {
				t.Errorf("only %d attempts prove anything", proven)
			}
		})
	}
}

// TestUnknownUser: a recorder that root has started never records as root.
func TestUnknownUser(t *testing.T) {
	nstest.Need(t)
	if err := confine.DropUser("nobody-of-that-name"); !errors.Is(err, confine.ErrUser) || !strings.Contains(err.Error(), "useradd") {
		t.Errorf("unknown user: %v", err)
	}
	if err := confine.DropUser("root"); !errors.Is(err, confine.ErrUser) {
		t.Errorf("root: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Error("the test has lost its user")
	}
	if _, err := os.Stat("/etc/shadow"); errors.Is(err, fs.ErrNotExist) {
		t.Log("no /etc/shadow here")
	}
}
