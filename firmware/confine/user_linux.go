package confine

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// ErrUser: the user that a process should become is not one that it can be.
var ErrUser = errors.New("no user to run as")

// parentDeath is the signal that this process gets when its parent ends (prctl(2)). It belongs
// to the thread that was there first, and only while the program starts is that the one we are
// on.
var parentDeath = readParentDeath()

func readParentDeath() (sig int32) {
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&sig)), 0, 0, 0); err != nil {
		return 0
	}
	return sig
}

// DropUser makes this process, which root has started, one of the user name: with its groups,
// without any capability, and without a way back. The error wraps ErrUser where /etc/passwd
// does not have the user, or it is root itself.
func DropUser(name string) error {
	uid, gid, groups, err := lookUp(name)
	if err != nil {
		return err
	}
	if err := setBounding(0); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(groups) },
		func() error { return syscall.Setresgid(gid, gid, gid) },
		func() error { return syscall.Setresuid(uid, uid, uid) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("become user %s: %w", name, err)
		}
	}
	// The kernel forgets it when a process changes its user. Without it a recorder would live on
	// when its supervisor is killed.
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(parentDeath), 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("end with the parent: %w", errno)
	}
	return nil
}

func lookUp(name string) (uid, gid int, groups []int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("%w: this system has no user %q; make it with `useradd --system --groups dialout %s`", ErrUser, name, name)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	ids, err3 := u.GroupIds()
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, 0, nil, fmt.Errorf("%w: user %q: %w", ErrUser, name, err)
	}
	if uid == 0 || gid == 0 {
		return 0, 0, nil, fmt.Errorf("%w: user %q has the rights of root", ErrUser, name)
	}
	for _, id := range ids {
		g, err := strconv.Atoi(id)
		if err != nil {
			return 0, 0, nil, fmt.Errorf("%w: user %q: group %q", ErrUser, name, id)
		}
		groups = append(groups, g)
	}
	return uid, gid, groups, nil
}
