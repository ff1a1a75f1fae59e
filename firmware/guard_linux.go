package firmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/firmware/config"
	"holdfast/firmware/confine"
	"holdfast/firmware/evidence"
	"holdfast/firmware/guard"
	"holdfast/firmware/mediafifo"
	"holdfast/firmware/netlock"
	"holdfast/firmware/netlock/attempts"
)

// RecorderUser is the user that the recorder runs as on a locked board.
const RecorderUser = "holdfast"

// ErrBenchGuard: there is nothing to guard in bench mode.
var ErrBenchGuard = errors.New(`lock.mode is "bench": the guard would lock this machine; set lock.mode = "locked" on a board`)

// ErrCgo: the C library makes calls of its own when it starts a thread, and ends the program where
// the guard's filter refuses one.
var ErrCgo = errors.New("this holdfastd was built with cgo, and would end at its first refused call; build it with CGO_ENABLED=0, as `make build` does")

// Guard is the guard's process: it locks the board, or the network namespace it was put in, and
// keeps it locked until ctx ends. The lock stays when it ends.
func Guard(ctx context.Context, o Options) error {
	cfg := o.Config
	if cfg.Bench() {
		return ErrBenchGuard
	}
	if withCgo {
		return ErrCgo
	}
	notify, err := newNotifier()
	if err != nil {
		o.Log.Warn("guard", slog.Any("err", err))
	}
	fifo, err := prepareRun(cfg, o.Log)
	if err != nil {
		return fmt.Errorf("run folder: %w", plain(err))
	}
	defer fifo.Close()
	lock, err := newLock(cfg, fifo, o.Log)
	if errors.Is(err, netlock.ErrHardware) {
		return ErrNotBoard
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	notes, err := confine.Guard(confine.GuardOptions{})
	if err != nil {
		return err
	}
	for _, n := range notes {
		o.Log.Warn("guard: not confined", slog.String("what", n.What), slog.String("why", n.Why))
	}
	drain := func() {
		if err := fifo.Flush(); err != nil {
			o.Log.Error("guard: attempts", slog.Any("err", err))
		}
	}
	g, err := guard.New(guard.Config{
		Lock: lock, Dir: cfg.Lock.Run, Boot: bootID(), Now: sinceBoot(), Notify: notify.tell, Log: o.Log, Attempts: fifo.Put, Each: drain,
		Tickets: guard.Tickets{File: cfg.Lock.Ticket, Admit: guard.FileAdmit(cfg.Lock.Signers, cfg.Lock.UsedNumbers)},
	})
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// prepareRun makes the folder where guard and recorder meet, and the FIFO in it; the FIFOs between
// recorder and media process; and the names under which shares are found.
func prepareRun(cfg *config.Config, log *slog.Logger) (*attempts.Writer, error) {
	dir := cfg.Lock.Run
	uid, gid := userIDs(RecorderUser)
	own := filepath.Join(dir, filepath.Dir(evidence.RecorderFile))
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, err
	}
	// The recorder owns its own folder and reads the FIFO; nobody else can do either.
	if err := os.Lchown(own, uid, gid); err != nil && os.Geteuid() == 0 {
		return nil, err
	}
	// A board whose photos or shares cannot be had is locked and records all the same.
	if cfg.Media() {
		mediaUID, mediaGID := userIDs(MediaUser)
		if err := mediafifo.Make(dir, &mediafifo.Owners{RecorderUID: uid, RecorderGID: gid, MediaUID: mediaUID, MediaGID: mediaGID}); err != nil {
			log.Error("guard: the way from the media process", slog.Any("err", err))
		}
	}
	if err := linkShares(cfg); err != nil {
		log.Error("guard: shares", slog.Any("err", err))
	}
	return attempts.OpenWriter(filepath.Join(dir, evidence.AttemptsFIFO), 0o640, gid)
}

// userIDs returns user and group of a process of the board; where there is no such user it runs as
// this process's.
func userIDs(name string) (uid, gid int) {
	u, err := user.Lookup(name)
	if err != nil {
		return os.Getuid(), os.Getgid()
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	if errUID != nil || errGID != nil {
		return os.Getuid(), os.Getgid()
	}
	return uid, gid
}

func newLock(cfg *config.Config, fifo *attempts.Writer, log *slog.Logger) (*netlock.Lock, error) {
	c := netlock.Config{Namespace: !boardsGuard(), Attempts: fifo.Put, Log: log, Now: sinceBoot()}
	if c.Namespace {
		c.Cgroup = ownCgroup()
		log.Warn("guard: this is no board's guard: nothing but the network namespace that it is in is locked")
	}
	for _, link := range cfg.Link {
		c.Devices = append(c.Devices, link.Device)
	}
	for _, r := range cfg.USB.Allow {
		c.USB = append(c.USB, netlock.USBRule{Port: r.Port, Vendor: r.Vendor, Product: r.Product})
	}
	if leaks := netlock.Leaks(); len(leaks) > 0 {
		log.Error("guard: this build leaks on purpose and is for the audit alone", slog.Any("layers", leaks))
	}
	return netlock.New(c)
}

// ownCgroup returns the folder of the cgroup (v2) that this process is in; empty where that is
// the root of the tree, which is everybody's.
func ownCgroup() string {
	p, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(p)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/"); ok && name != "" {
			return filepath.Join(netlock.CgroupTree(), name)
		}
	}
	return ""
}
