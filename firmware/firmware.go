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
	"maps"
	"os"
	"slices"
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
	p, err := openParts(cfg, o)
	if err != nil {
		return err
	}
	defer p.close()
	file, held := openHeld(o)
	defer file.close()
	notes, settle, err := confineRecorder(cfg, o)
	if err != nil {
		return err
	}
	notes = append(notes, lockMemory()...)
	v, err := sealedVault(cfg, o, notes)
	if err != nil {
		return err
	}
	if err := settle(); err != nil {
		return errors.Join(err, v.Close())
	}
	c := recorder.Config{
		Links: links(cfg), OpenLink: link.Open, Vault: v, ArmedOnly: cfg.Vault.Record == config.RecordArmed,
		Now: sinceBoot(), Host: hostClock, Guard: runFolder(cfg, v.DeviceID()), Pause: pause, Log: o.Log,
	}
	c.HeldOver = held
	p.configure(&c)
	r := recorder.New(c)
	p.attach(r)
	if err := p.openMedia(v, r); err != nil {
		return errors.Join(err, v.Close())
	}
	medium, err := newMediumWatch(cfg.Vault.Path)
	if err != nil {
		return errors.Join(fmt.Errorf("vault: %w", err), v.Close())
	}
	ctx, anew := context.WithCancelCause(ctx)
	defer anew(nil)
	go medium.follow(ctx, func() bool { return r.Snapshot().State == "fault" }, anew)
	file.taken()
	err = runWithStatus(ctx, o, r, notify, p)
	if errors.Is(context.Cause(ctx), ErrMountedAnew) {
		err = errors.Join(ErrMountedAnew, err)
		file.leave(r.HeldOver())
	}
	return errors.Join(err, v.Close())
}

// sealedVault opens the vault for the recipients of the configuration.
func sealedVault(cfg *config.Config, o Options, notes []segment.Note) (*vault.Vault, error) {
	rs, err := Recipients(cfg)
	if err != nil {
		return nil, err
	}
	groups, err := Groups(cfg)
	if err != nil {
		return nil, err
	}
	makeKey, err := keyMaker(o.KeyCommand, rs, slices.Concat(o.KeyGroups, groups))
	if err != nil {
		return nil, err
	}
	return openVault(cfg, o, notes, ahead(makeKey))
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

// partsWait is how long the parts beside the recorder have to end before the recorder does, so that
// what they still have to say gets into the record.
const partsWait = 700 * time.Millisecond

// runAll runs the recorder and what is beside it. The parts end first, while there is still a record;
// one that takes too long ends beside it.
func runAll(ctx context.Context, r *recorder.Recorder, p *parts) error {
	end := p.start()
	recordCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan struct{})
	over := context.AfterFunc(ctx, func() {
		go func() {
			defer close(ended)
			end()
		}()
		select {
		case <-ended:
		case <-time.After(partsWait):
		}
		stop()
	})
	err := r.Run(recordCtx)
	if over() { // the inputs have ended by themselves
		end()
		return err
	}
	<-ended
	return err
}

func runWithStatus(ctx context.Context, o Options, r *recorder.Recorder, notify *notifier, p *parts) error {
	file := &status.File{Path: o.Config.Status.File, Log: o.Log, Report: func() status.Report { return report(r.Snapshot()) }}
	statusCtx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { file.Run(statusCtx, r.Ready()) })
	wg.Go(func() { notify.follow(statusCtx.Done(), r.Ready(), r.Beat) })
	err := runAll(ctx, r, p)
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
	return recipients(cfg.Vault.Recipients)
}

func recipients(path string) (*keys.Recipients, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("recipients: %w; make the file with `holdfast provision`", plain(err))
	}
	defer f.Close()
	rs, err := keys.ParseRecipients(f)
	if err != nil {
		return nil, fmt.Errorf("recipients %s: %w; one age recipient (age1...) a line, from `holdfast keygen`", path, err)
	}
	return rs, nil
}

// Groups reads the recipients of the streams that have some of their own.
func Groups(cfg *config.Config) (groups []KeyGroup, err error) {
	files := cfg.StreamRecipients()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		rs, err := recipients(path)
		if err != nil {
			return nil, err
		}
		groups = append(groups, KeyGroup{Streams: files[path], Recipients: rs})
	}
	return groups, nil
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
		Reserve: cfg.Vault.Reserve, YieldBelow: yieldBelow(cfg), RoomFor: roomFor(cfg), Wipe: seal.Wipe,
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

// yieldBelow says below how much free space a stream beside telemetry ends: the last to yield where
// the reserve begins, each one before it a reserve earlier.
func yieldBelow(cfg *config.Config) map[byte]int64 {
	letters := map[string]byte{config.YieldVideo: segment.StreamVideo, config.YieldPhoto: segment.StreamPhoto, config.YieldLog: segment.StreamAutopilot}
	marks := map[byte]int64{}
	for i, name := range cfg.Policy.Yield {
		marks[letters[name]] = vault.MinFree + cfg.Vault.Reserve*int64(len(cfg.Policy.Yield)-i)
	}
	return marks
}

// roomFor is the free space that a board keeps which deletes its oldest records: what the first stream
// to yield that it records needs, but no more than an eighth of the medium.
func roomFor(cfg *config.Config) (room int64) {
	marks := yieldBelow(cfg)
	for letter, on := range map[byte]bool{segment.StreamVideo: cfg.Media() && cfg.Policy.Video, segment.StreamPhoto: cfg.Media() && cfg.Policy.Photo,
		segment.StreamAutopilot: cfg.Policy.Send && cfg.Policy.AutopilotLog != config.LogOff} {
		if on {
			room = max(room, marks[letter]+vault.MinFree)
		}
	}
	var s unix.Statfs_t
	if err := unix.Statfs(cfg.Vault.Path, &s); err != nil {
		return 0
	}
	return min(room, int64(s.Blocks)*int64(s.Bsize)/8)
}

func header(cfg *config.Config, version string, notes []segment.Note) segment.Header {
	h := segment.Header{Boot: bootID(), Version: version, Board: cfg.Board.Profile, Notes: notes}
	h.Lock, h.Grade = lockAtStart(cfg)
	h.Operator, h.Case, h.Origins = cfg.Policy.Operator, cfg.Policy.Case, origins(cfg)
	if !cfg.Policy.Telemetry {
		h.Notes = append(h.Notes, segment.Note{What: "telemetry", Why: "the policy does not record it"})
	}
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
