package link_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"

	"holdfast/mavlink/link"
	"holdfast/mavlink/serial/serialtest"
)

// noSocketEnv makes the test program open the devices where every socket call fails.
const noSocketEnv = "LINK_NO_SOCKET_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(noSocketEnv); dir != "" {
		if err := withoutSockets(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// On a kernel without a network stack files and lines work, and the rest gives an error. The
// filter ends the process at the first call that could send.
func TestNoSockets(t *testing.T) {
	if !seccomp.Supported() {
		t.Skip("no seccomp here")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), noSocketEnv+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("the test program is emulated and cannot start itself")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func withoutSockets(dir string) error {
	path := filepath.Join(dir, "raw.bin")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		return err
	}
	if err := denySockets(); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	line, err := serialtest.NewPty(filepath.Join(dir, "fc"))
	if err != nil {
		return err
	}
	for _, device := range []string{"file:" + path, line.Slave(), filepath.Join(dir, "fc")} {
		if _, err := line.Write([]byte("abc")); err != nil {
			return err
		}
		if err := readABC(device); err != nil {
			return fmt.Errorf("%s: %w", device, err)
		}
	}
	for _, device := range []string{"tcp:127.0.0.1:5760", "udp:127.0.0.1:14550"} {
		if _, err := link.Open(device, baud); !errors.Is(err, syscall.EAFNOSUPPORT) {
			return fmt.Errorf("%s, so the filter does not work: %w", device, err)
		}
	}
	return line.Close()
}

func denySockets() error {
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionAllow,
			Syscalls: []seccomp.SyscallGroup{
				{Action: seccomp.ActionErrno | seccomp.Action(syscall.EAFNOSUPPORT), Names: []string{"socket", "socketpair"}},
				{Action: seccomp.ActionKillProcess, Names: []string{"sendto", "sendmsg"}},
			},
		},
	})
}

// readABC reads the first three bytes of device.
func readABC(device string) error {
	s, err := link.Open(device, baud)
	if err != nil {
		return err
	}
	b := make([]byte, 3)
	n, err := s.Read(b, patience)
	if string(b[:n]) != "abc" {
		return fmt.Errorf("read %q, %w", b[:n], err)
	}
	return s.Close()
}
