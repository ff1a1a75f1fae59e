package confine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"holdfast/firmware/confine"
	"holdfast/firmware/evidence"
	"holdfast/firmware/netlock"
	"holdfast/firmware/netlock/nstest"
)

// guardAtWork keeps a real lock of the test's namespace, confined. A call that is not on the
// guard's list ends it, and its trace says which it was. It prints "locked", works until its
// input ends, opens and shuts the lock, and prints how the layers are.
func guardAtWork(cgroup string) error {
	policy := confine.Policy(confine.GuardProcess, confine.Options{})
	policy.DefaultAction = seccomp.ActionTrap
	if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy}); err != nil {
		return err
	}
	if _, err := confine.Guard(confine.GuardOptions{}); err != nil {
		return err
	}
	var named atomic.Int64
	lock, err := netlock.New(netlock.Config{Namespace: true, Cgroup: cgroup, Attempts: func(a evidence.Attempt) {
		if strings.HasPrefix(a.Program, "/") {
			named.Add(a.Count)
		}
	}})
	if err != nil {
		return err
	}
	_ = lock.Apply() // layers of the host are missing here; what the others are is printed below
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- lock.Run(ctx) }()
	fmt.Println("locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	fmt.Println("named", named.Load())
	if err := errors.Join(lock.Open([]string{"hfguard"}), lock.Shut()); err != nil {
		return err
	}
	stop()
	err = <-ended
	for _, y := range lock.State().Layers {
		fmt.Println(y.Name, y.State, y.Detail)
	}
	return errors.Join(err, lock.Close())
}

// testGuardAtWork: a guard that is confined locks, covers a link that comes later, names who
// tries to send though that is another user's process, opens and shuts.
func testGuardAtWork(t *testing.T) {
	cgroup := nstest.Cgroup(t)
	cmd := exec.CommandContext(t.Context(), captiveProgram(t), cgroup)
	cmd.Env = append(os.Environ(), confineEnv+"=guard at work")
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "locked" {
		in.Close()
		t.Fatalf("%q, %v: %s", lines.Text(), cmd.Wait(), errs.String())
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "hfguard"}, PeerName: "hfguardp"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = netlink.LinkDel(link) }()
	sendFrom(t, cgroup)
	in.Close()
	text := ""
	for lines.Scan() {
		text += lines.Text() + "\n"
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s%s", err, text, errs.String())
	}
	if strings.Contains(text, "named 0\n") || !strings.Contains(text, "named ") {
		t.Errorf("nobody was named: %s", text)
	}
	for _, layer := range []string{netlock.NftInet, netlock.NftARP, netlock.NftBridge, netlock.NftNetdev, netlock.TC, netlock.LinksDown, netlock.CgroupBPF, netlock.Sysctl} {
		if !strings.Contains(text, "\n"+layer+" ok") {
			t.Errorf("%s is not ok: %s", layer, text)
		}
	}
}

// sendFrom has a process of another user, in the cgroup, try to send. It waits until the guard
// had time to look at it.
func sendFrom(t *testing.T, cgroup string) {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.CommandContext(t.Context(), captiveProgram(t), filepath.Base(cgroup))
	cmd.Env = append(os.Environ(), confineEnv+"="+sender)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// sender is a process that tries to send, for a while.
const sender = "sender"

func sendForAWhile() {
	for range 20 {
		if c, err := net.Dial("udp", "192.0.2.1:9"); err == nil {
			_, _ = c.Write([]byte("x"))
			c.Close()
		}
		pause := unix.NsecToTimespec((25 * time.Millisecond).Nanoseconds())
		_ = unix.Nanosleep(&pause, nil)
	}
}
