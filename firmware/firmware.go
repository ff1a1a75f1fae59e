// Package firmware builds the parts of the board's program, wires them, starts and stops them
// in order. Intake stops first, then what waits is written, then the record is closed.
package firmware

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/crypto/keys"
	"holdfast/crypto/seal"
	"holdfast/firmware/config"
	"holdfast/firmware/recorder"
	"holdfast/firmware/status"
	"holdfast/mavlink/link"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

// Options is what Run needs beside the configuration.
type Options struct {
	Config  *config.Config
	Version string
	// KeyCommand runs FlightKeyChild in a process of its own.
	KeyCommand []string
	// KeyGroups are streams that have recipients of their own; nil: all are sealed to those of
	// the configuration.
	KeyGroups []KeyGroup
	// Run is the run folder of a bench; empty: none. A locked board has that of its configuration.
	Run string
	Log *slog.Logger
}

// lockWait is how long a start waits for the vault's lock: a recorder that was killed a moment
// ago may still be on its way out, and a reader may hold it for an instant.
const lockWait = 2 * time.Second

// Record is the recorder's process: it records until ctx ends, or until every link is a file
// that was read to its end.
func Record(ctx context.Context, o Options) error {
	cfg := o.Config
	notify, err := newNotifier() // afterwards the process may open no socket of any kind
	if err != nil {
		o.Log.Warn("record", slog.Any("err", err))
	}
	notes, settle, err := confineRecorder(cfg, o.KeyCommand[0])
	if err != nil {
		return err
	}
	rs, err := Recipients(cfg)
	if err != nil {
		return err
	}
	notes = append(notes, lockMemory()...)
	makeKey, err := keyMaker(o.KeyCommand, rs, o.KeyGroups)
	if err != nil {
		return err
	}
	v, err := openVault(cfg, o, notes, ahead(makeKey))
	if err != nil {
		return err
	}
	if err := settle(); err != nil {
		return errors.Join(err, v.Close())
	}
	r := recorder.New(recorder.Config{
		Links: links(cfg), OpenLink: link.Open, Vault: v, ArmedOnly: cfg.Vault.Record == config.RecordArmed,
		Now: sinceBoot(), Host: hostClock, Guard: runFolder(cfg, v.DeviceID()), Pause: pause, Log: o.Log,
	})
	return errors.Join(runWithStatus(ctx, o, r, notify), v.Close())
}

// readPause is how long the reader rests after a read that brought little: stamps are late by that
// at most. At 921,600 baud less than 1 KiB comes meanwhile, and the kernel holds four times that.
const readPause = 10 * time.Millisecond

// pause sleeps in the kernel: a Go timer would wake another thread for each.
func pause() {
	ts := unix.NsecToTimespec(readPause.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil) // a signal that ends it early does no harm
}

// sinceBoot is the one clock of the process.
var sinceBoot = sync.OnceValue(bootClock)

func runWithStatus(ctx context.Context, o Options, r *recorder.Recorder, notify *notifier) error {
	file := &status.File{Path: o.Config.Status.File, Log: o.Log, Report: func() status.Report { return report(r.Snapshot()) }}
	statusCtx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { file.Run(statusCtx, r.Ready()) })
	wg.Go(func() { notify.follow(statusCtx.Done(), r.Ready(), r.Beat) })
	err := r.Run(ctx)
	stop()
	wg.Wait()
	if e := file.Write(); e != nil {
		o.Log.Warn("status file", slog.Any("err", e))
	}
	return err
}

func report(s recorder.Snapshot) status.Report {
	return status.Report{State: s.State, Lock: s.Lock, Grade: s.Grade, Armed: s.Armed, Record: s.Record, Frames: s.Frames, Bytes: s.Bytes,
		Gaps: s.Gaps, NoiseBytes: s.Noise, RingDrops: s.Drops, VaultFree: s.Free, LastError: s.LastError}
}

// Recipients reads the recipients file. Without one valid recipient nothing is recorded: there
// would be nobody to seal it for.
func Recipients(cfg *config.Config) (*keys.Recipients, error) {
	f, err := os.Open(cfg.Vault.Recipients)
	if err != nil {
		return nil, fmt.Errorf("recipients: %w; make the file with `holdfast provision`", plain(err))
	}
	defer f.Close()
	rs, err := keys.ParseRecipients(f)
	if err != nil {
		return nil, fmt.Errorf("recipients %s: %w; one age recipient (age1...) a line, from `holdfast keygen`", cfg.Vault.Recipients, err)
	}
	return rs, nil
}

// plain shortens "open x: no such file" to one clause without the call's name.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}

func links(cfg *config.Config) (ls []recorder.Link) {
	for _, l := range cfg.Link {
		ls = append(ls, recorder.Link{Name: l.Name, Device: l.Device, Baud: l.Baud})
	}
	return ls
}

// errLockLimit: memory is not locked, since the process would end where it reaches the limit.
var errLockLimit = errors.New("memory that may be locked is limited (ulimit -l, LimitMEMLOCK=)")

// lockPages keeps all memory of this process out of swap. MCL_ONFAULT (0x4) locks pages as they
// are used: locking all that Go reserves would cost several times the memory. Under a limit Go's
// reservations count in full, and a later one that is refused ends the program.
func lockPages() error {
	none, limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, unix.Rlimit{}
	_ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &none, nil) // takes CAP_SYS_RESOURCE
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &limit); err != nil {
		return err
	}
	if limit.Cur != unix.RLIM_INFINITY {
		return errLockLimit
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// lockMemory keeps keys and frames out of swap and core dumps.
func lockMemory() (notes []segment.Note) {
	if err := lockPages(); err != nil {
		notes = append(notes, segment.Note{What: "mlockall", Why: err.Error()})
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		notes = append(notes, segment.Note{What: "no core dumps", Why: err.Error()})
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		notes = append(notes, segment.Note{What: "not dumpable", Why: err.Error()})
	}
	return notes
}

func openVault(cfg *config.Config, o Options, notes []segment.Note, newKey func() (*vault.FlightKey, error)) (*vault.Vault, error) {
	device, err := deviceKey(cfg.Vault.DeviceKey)
	if err != nil {
		return nil, err
	}
	signer, err := device.Signer()
	if err != nil {
		return nil, fmt.Errorf("device key: %w", err)
	}
	fsys, err := vault.NewOSFS(cfg.Vault.Path)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", plain(err))
	}
	c := vault.Config{
		FS: fsys, DeviceID: device.ID(), DevicePub: device.Verifier() + "\n", DeviceKey: signer, Rand: rand.Reader, Now: sinceBoot(), NewKey: newKey,
		FlushArmed: cfg.Vault.FlushArmed, FlushIdle: cfg.Vault.FlushIdle, WhenFull: cfg.Vault.WhenFull, Record: cfg.Vault.Record,
		Reserve: cfg.Vault.Reserve, Wipe: seal.Wipe,
		Header: header(cfg, o.Version, notes),
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockWait / 40) {
		v, err := vault.Open(c)
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, vault.ErrLocked) || time.Now().After(deadline) {
			return nil, fmt.Errorf("vault %s: %w", cfg.Vault.Path, err)
		}
	}
}

func header(cfg *config.Config, version string, notes []segment.Note) segment.Header {
	h := segment.Header{Boot: bootID(), Version: version, Board: cfg.Board.Profile, Notes: notes}
	h.Lock, h.Grade = lockAtStart(cfg)
	for _, l := range cfg.Link {
		h.Links = append(h.Links, segment.Link{Name: l.Name, Device: l.Device, Baud: l.Baud})
	}
	return h
}

// bootID tells two starts of the kernel apart (random(4)). It is read once: a confined process
// may no longer.
var bootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
})
