// Command init is process 1 of the guest that the power-cut test records in: it loads the modules
// for the disk, mounts it, and runs holdfastd on the second serial port until the power goes. With
// "holdfast.control" on the kernel's command line it runs the control instead: a plain copy of
// the line into a file, never synced.
//
// It is part of a test, not of any image.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	uart = "/dev/ttyS1"
	disk = "/dev/vda"
)

func main() {
	err := boot()
	if err == nil {
		err = work()
	}
	fmt.Println("guest: failed:", err)
	select {} // process 1 must not end; the test reads the line above
}

func boot() error {
	for _, m := range [][3]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"devpts", "/dev/pts"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			return err
		}
		if err := unix.Mount("none", m[1], m[0], 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		if err := load("/modules/" + name); err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	if err := appears(disk); err != nil {
		return err
	}
	if err := os.MkdirAll("/data", 0o755); err != nil {
		return err
	}
	if err := unix.Mount(disk, "/data", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", disk, err)
	}
	return nil
}

func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// appears waits for what the kernel finds by itself.
func appears(name string) error {
	for range 200 {
		if _, err := os.Stat(name); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s did not appear", name)
}

func work() error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if bytes.Contains(cmdline, []byte("holdfast.control")) {
		return control()
	}
	cmd := exec.Command("/holdfastd", "run", "--config", "/data/holdfast.toml")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = []string{"GOMAXPROCS=1", "TMPDIR=/run", "XDG_RUNTIME_DIR=/run"}
	if err := cmd.Start(); err != nil {
		return err
	}
	go tellReady()
	return fmt.Errorf("holdfastd ended: %w", cmd.Wait())
}

// tellReady says when the recorder listens: status.json stands once each link was tried.
func tellReady() {
	if appears("/run/status.json") == nil {
		fmt.Println("guest: listening")
	}
}

// control copies the line into a file and syncs nothing.
func control() error {
	fd, err := unix.Open(uart, unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	t := unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B921600}
	t.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return err
	}
	f, err := os.Create("/data/control.bin")
	if err != nil {
		return err
	}
	fmt.Println("guest: listening")
	_, err = io.Copy(f, os.NewFile(uintptr(fd), uart))
	return fmt.Errorf("control ended: %w", err)
}
