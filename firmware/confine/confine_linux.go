// Package confine takes from a process of the board, for good, what its work does not need, so
// that a fault in it gives an attacker little: every thread of it gets
//
//   - no_new_privs (prctl(2)): no program that it starts has more rights than itself;
//   - empty sets of capabilities (capabilities(7)), or the few of the guard;
//   - Landlock (landlock(7), https://docs.kernel.org/userspace-api/landlock.html): files outside
//     those it works with cannot be opened, no other program be run, no TCP port be used;
//   - a seccomp filter (seccomp(2)) that lists the system calls it may make. All others end with
//     EPERM. Memory cannot be made executable.
//
// The lists were measured on amd64 and are held to by tests; for arm64 and arm they were
// compared with what the same program calls under an emulator.
//
// What a kernel does not have (Landlock before Linux 5.13, seccomp filters in a kernel without a
// network stack) is a Note. What it has and refuses is an error, on the bench a Note.
//
// The package does not touch the host: it has no effect on any other process. It does not stop
// the code of a process from misusing what the process needs: a recorder that is taken over can
// still write into the vault.
package confine

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Note is a restriction that is not in force, and why.
type Note struct{ What, Why string }

// Names of the restrictions, as Note.What and errors have them.
const (
	NoNewPrivs   = "no_new_privs"
	Capabilities = "capabilities"
	Landlock     = "landlock"
	Seccomp      = "seccomp"
)

// Options says what a recorder works with. Paths are absolute.
type Options struct {
	// Bench makes notes of what would be an error.
	Bench bool
	// User is the user that a recorder started by root becomes; empty: it stays who it is.
	User string
	// Read names files, and folders with all below, that are only read.
	Read []string
	// Write names folders in which anything may be made, changed and removed.
	Write []string
	// Make names files and folders that are not there yet. Until Narrow the nearest folders above
	// them may be written into.
	Make []string
	// Lines names serial lines, or symbolic links to them; they may appear later.
	Lines []string
	// Pipes names folders whose FIFOs are opened, to read and to write.
	Pipes []string
	// Remove names folders in which a file may be removed, and nothing made.
	Remove []string
	// Programs names what may be executed.
	Programs []string
	// Media says that a supervisor starts a media process too, whose cameras' programs are anybody's.
	Media bool
	// TCP and UDP name ports of links on the bench: to connect to, and to listen on.
	TCP, UDP []uint16
	// Send says that UDP links are answered.
	Send bool
}

// GuardOptions says what a guard needs beside the kernel's network.
type GuardOptions struct {
	// Bench makes notes of what would be an error.
	Bench bool
}

// Recorder confines the process that records. It returns an error, in locked mode only, which
// names what could not be done; then nothing must be recorded.
func Recorder(o Options) ([]Note, error) {
	a := attempt{bench: o.Bench}
	raiseMemoryLock()
	if o.User != "" && os.Geteuid() == 0 {
		if err := DropUser(o.User); err != nil {
			return nil, err // never record as root in its place
		}
	}
	keep := needed(o)
	a.try(NoNewPrivs, noNewPrivs())
	a.try(Capabilities, capabilities(keep, 0))
	a.note(Capabilities, keptWhy(keep))
	_, _ = time.Now().Zone() // the time zone is read from a file, once
	a.try(Landlock, restrictFiles(o))
	a.note(Landlock, overlaps(o))
	a.try(Seccomp, load(Policy(RecorderProcess, o)))
	return a.notes, a.err()
}

// Narrow takes from a recorder what Recorder left it to make o.Make in. It may be called once.
func Narrow(o Options) ([]Note, error) {
	a := attempt{bench: o.Bench}
	o.Make = nil
	a.try(Landlock, restrictFiles(o))
	return a.notes, a.err()
}

// KeyChild confines the process that makes one flight key: it reads standard input, writes
// standard output and computes. It opens nothing and starts nothing. What the kernel does not
// have is left out without a word: the recorder, on the same kernel, has noted it.
func KeyChild() error {
	var a attempt
	a.try(NoNewPrivs, noNewPrivs())
	// Where this process cannot empty the bounding set, the recorder that started it could not
	// either, and has said so.
	_ = setBounding(0)
	a.try(Capabilities, setCapabilities(0))
	a.try(Landlock, restrictAll())
	a.try(Seccomp, load(Policy(KeyProcess, Options{})))
	return a.err()
}

// Guard confines the process that keeps the lock. It keeps the capabilities that this takes, and
// netlink, but cannot start a program, trace another process, mount, or open a socket of IPv4
// or IPv6. Landlock is not for it: a process under Landlock may not ask whose a process outside
// of it is, and then nobody could be named who tried to send.
func Guard(o GuardOptions) ([]Note, error) {
	a := attempt{bench: o.Bench}
	raiseMemoryLock()
	a.try(NoNewPrivs, noNewPrivs())
	a.try(Capabilities, capabilities(guardCapabilities, guardCapabilities))
	a.try(Seccomp, load(Policy(GuardProcess, Options{})))
	return a.notes, a.err()
}

// Supervisor confines the process that starts a recorder with o and, unless on the bench, a
// guard. What it gives up its children do not get back, so it keeps what they need; on the bench
// Landlock lets it and all below run the programs of o and nothing else.
func Supervisor(o Options) ([]Note, error) {
	a := attempt{bench: o.Bench}
	raiseMemoryLock()
	a.try(NoNewPrivs, noNewPrivs())
	keep := supervisorCapabilities
	if o.Bench {
		keep = needed(o)
	}
	a.try(Capabilities, capabilities(keep, keep))
	if o.Bench {
		a.try(Landlock, restrictPrograms(o))
	}
	a.try(Seccomp, load(Policy(SupervisorProcess, o)))
	return a.notes, a.err()
}

// missing is what a kernel does not have.
type missing struct{ why string }

func (m *missing) Error() string { return m.why }

// attempt collects what became of the restrictions.
type attempt struct {
	bench bool
	notes []Note
	errs  []error
}

func (a *attempt) try(what string, err error) {
	_, unknown := errors.AsType[*missing](err)
	switch {
	case err == nil:
	case a.bench && errors.Is(err, errBounding): // without new privileges nothing can be made of it
	case a.bench || unknown:
		a.note(what, err.Error())
	default:
		a.errs = append(a.errs, fmt.Errorf("%s: %w", what, err))
	}
}

func (a *attempt) note(what, why string) {
	if why != "" {
		a.notes = append(a.notes, Note{what, why})
	}
}

func (a *attempt) err() error {
	if len(a.errs) == 0 {
		return nil
	}
	return fmt.Errorf("confine: %w", errors.Join(a.errs...))
}
