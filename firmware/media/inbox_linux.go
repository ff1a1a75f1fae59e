package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/firmware/mediapipe"
)

const (
	// maxInboxFile bounds a file of an inbox, in bytes.
	maxInboxFile = 16 << 30
	// maxInboxNames bounds what is remembered of names, and how many are looked at in one scan.
	maxInboxNames = 4096
	// inboxWithin is the least that is said of how well the time of a photo is known: a file system
	// counts in ticks, and the program had to write it.
	inboxWithin = time.Second
)

var (
	// ErrNotMemory: the inbox lies on a medium that keeps what is written.
	ErrNotMemory = errors.New("not in memory: what is put there would lie on a medium unsealed; make it a tmpfs")
	errNoFolder  = errors.New("not a folder")
)

// Magic numbers of statfs(2) for file systems that lie in memory (linux/magic.h).
const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6
)

// photoNames and videoNames are extensions of what an inbox takes, and what they are recorded as.
var (
	photoNames = map[string]string{"jpg": "jpg", "jpeg": "jpg", "dng": "dng", "png": "png", "raw": "raw", "tif": "tif", "tiff": "tif", "heic": "heic",
		"heif": "heic", "webp": "webp", "cr2": "cr2", "cr3": "cr3", "nef": "nef", "arw": "arw", "bmp": "bmp", "ppm": "ppm"}
	videoNames = map[string]string{"mp4": "mp4", "m4v": "mp4", "mov": "mov", "ts": "ts", "m2ts": "ts", "mts": "ts", "h264": "h264", "264": "h264",
		"h265": "h265", "265": "h265", "hevc": "h265", "mjpeg": "mjpeg", "mjpg": "mjpeg", "mkv": "mkv", "webm": "webm", "avi": "avi"}
	soundNames = "wav mp3 aac m4a flac ogg oga opus wma ac3 amr aif aiff mka pcm"
)

// inbox is a folder in memory into which somebody puts files. Each is handed over when it was closed,
// and removed when the recorder has it. The programs that put them there are not trusted: no
// link is followed, nothing but ordinary files is opened.
type inbox struct {
	c *camera
	// Names that were refused are told once; those that could not be kept are tried again later.
	// Both are forgotten with the file.
	refused map[string]bool
	later   map[string]time.Duration
	open    map[string]time.Duration // files that are being written: when they were made
	files   map[string]bool          // closed, in the order of queue
	queue   []string
}

func newInbox(c *camera) *inbox { return &inbox{c: c} }

// run takes files until ctx ends. What was there before is taken too.
func (b *inbox) run(ctx context.Context) error {
	dir, err := openInbox(b.c.cfg.Path)
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	defer dir.Close()
	b.refused, b.later, b.open, b.files, b.queue = map[string]bool{}, map[string]time.Duration{}, map[string]time.Duration{}, map[string]bool{}, nil
	w, err := watchInbox(dir)
	if err != nil {
		b.c.m.event(b.c.cfg.Name, "inbox_unwatched", err.Error()+"; it is looked at each second")
	} else {
		defer w.Close()
	}
	changes := w.follow(ctx)
	b.scan(dir)
	t := time.NewTicker(b.c.m.times.rescan)
	defer t.Stop()
	for {
		b.drain(ctx, dir)
		select {
		case <-ctx.Done():
			return nil
		case list, ok := <-changes:
			if !ok {
				return errors.New("inbox: the folder is gone")
			}
			if b.note(list) {
				b.scan(dir)
			}
		case <-t.C:
			if err := still(dir, b.c.cfg.Path); err != nil {
				return err
			}
			b.scan(dir)
		}
	}
}

// openInbox opens the folder, which has to lie in memory and be no link.
func openInbox(path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			err = fmt.Errorf("%s: %w", path, errNoFolder)
		}
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if magic := uint32(fs.Type); magic != tmpfsMagic && magic != ramfsMagic {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrNotMemory), f.Close())
	}
	return f, nil
}

// still tells whether the folder is what the path names yet: something else may be mounted there.
func still(dir *os.File, path string) error {
	was, err := dir.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Lstat(path); err != nil || !os.SameFile(was, is) {
		return fmt.Errorf("inbox: %s is another folder now", path)
	}
	return nil
}

// change is one thing that happened in the folder.
type change struct {
	name   string
	made   bool
	closed bool
	gone   bool
	all    bool // changes were lost: look at everything
}

// note takes changes; it tells whether all has to be looked at.
func (b *inbox) note(list []change) (all bool) {
	now := b.c.m.cfg.Now()
	for _, c := range list {
		switch {
		case c.all:
			all = true
			clear(b.open) // it may have been closed meanwhile
		case c.gone:
			b.forget(c.name)
		case c.closed:
			b.add(c.name)
		case c.made && len(b.open) < maxInboxNames:
			b.open[c.name] = now
		}
	}
	return all
}

func (b *inbox) add(name string) {
	if !b.files[name] && len(b.queue) < maxInboxNames {
		b.files[name] = true
		b.queue = append(b.queue, name)
	}
}

// forget drops what is remembered of a name.
func (b *inbox) forget(name string) {
	delete(b.refused, name)
	delete(b.later, name)
	delete(b.open, name)
}

// scan looks at all that is there. What nobody has told of as closed is taken when it has not changed
// for a while.
func (b *inbox) scan(dir *os.File) {
	now := b.c.m.cfg.Now()
	for name, at := range b.later {
		if now >= at {
			delete(b.later, name)
			b.add(name)
		}
	}
	list, err := names(dir)
	if err != nil {
		return
	}
	if len(b.refused) > maxInboxNames { // told once more, rather than remembered for ever
		clear(b.refused)
	}
	for _, name := range list {
		if !b.refused[name] && b.later[name] == 0 && b.ripe(dir, name) {
			b.add(name)
		}
	}
}

// ripe tells whether a file may be looked at that nobody has told of as closed.
func (b *inbox) ripe(dir *os.File, name string) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	if plain(&st) != "" { // a folder, a link or a second name is never written and closed
		return true
	}
	_, writing := b.open[name]
	return !writing && time.Since(time.Unix(st.Mtim.Unix())) >= b.c.m.times.quiet
}

// names lists what is in the folder, no more than is looked at at once.
func names(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	list, err := dir.Readdirnames(maxInboxNames)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	slices.Sort(list)
	return list, err
}

// drain hands over what waits, one after the other.
func (b *inbox) drain(ctx context.Context, dir *os.File) {
	for len(b.queue) > 0 && ctx.Err() == nil {
		name := b.queue[0]
		b.queue = b.queue[1:]
		delete(b.files, name)
		b.one(ctx, dir, name)
	}
	if len(b.queue) == 0 {
		b.queue = nil
	}
}

// one hands over a file and removes it when it is kept.
func (b *inbox) one(ctx context.Context, dir *os.File, name string) {
	if _, waits := b.later[name]; waits || b.refused[name] {
		return
	}
	begin, why := b.judge(name)
	if why != "" {
		b.refuse(name, why)
		return
	}
	f, why := openPlain(dir, name)
	if f == nil {
		if why != "" {
			b.refuse(name, why)
		}
		return
	}
	defer f.Close()
	if written(f) {
		return // its close is told, or it is looked at again
	}
	why = b.hand(ctx, f, begin)
	switch {
	case ctx.Err() != nil:
	case why == wantsNone:
		b.refuse(name, why)
	case why != "":
		b.later[name] = max(b.c.m.cfg.Now()+b.c.m.times.kept, 1)
		b.c.m.event(b.c.cfg.Name, "inbox_waits", "a file stays in the inbox for now: "+why)
	default:
		b.remove(dir, f, name)
	}
}

// wantsNone is why a file with sound is refused.
const wantsNone = "it has sound, and the policy wants none"

// judge goes by the name: what the file is, or why it is refused.
func (b *inbox) judge(name string) (begin mediapipe.Begin, why string) {
	if mediapipe.Text(name) != name {
		return begin, "control characters in its name, or too long a one"
	}
	ext := strings.ToLower(strings.TrimPrefix(filepath.Ext(name), "."))
	begin = mediapipe.Begin{Camera: b.c.cfg.Name, Name: name, Asks: true}
	switch {
	case slices.Contains(strings.Fields(soundNames), ext):
		if !b.c.m.cfg.Audio || !b.c.cfg.Audio {
			return begin, wantsNone
		}
		begin.Kind, begin.Format = mediapipe.Video, ext
	case photoNames[ext] != "":
		begin.Kind, begin.Format = mediapipe.Photo, photoNames[ext]
	case videoNames[ext] != "":
		begin.Kind, begin.Format = mediapipe.Video, videoNames[ext]
	case b.c.cfg.Format == "jpg":
		begin.Kind, begin.Format = mediapipe.Photo, "jpg"
	default:
		begin.Kind, begin.Format = mediapipe.Video, b.c.cfg.Format
	}
	switch {
	case begin.Kind == mediapipe.Photo && !b.c.m.cfg.Photo:
		why = "policy.photo is false"
	case begin.Kind == mediapipe.Video && !b.c.m.cfg.Video:
		why = "policy.video is false"
	}
	return begin, why
}

// openPlain opens an ordinary file of one name. Neither is it, nor why it is none, where it has gone.
func openPlain(dir *os.File, name string) (f *os.File, why string) {
	// Not to wait for the other end of a pipe, nor to wake a device.
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil, ""
	}
	if err == nil {
		if why := plain(&st); why != "" {
			return nil, why
		}
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, ""
	case err != nil:
		return nil, err.Error()
	}
	f = os.NewFile(uintptr(fd), "inbox file")
	if err := unix.Fstat(fd, &st); err != nil {
		why = err.Error()
	} else {
		why = plain(&st) // it may be another one by now
	}
	if why != "" {
		_ = f.Close()
		return nil, why
	}
	return f, ""
}

func plain(st *unix.Stat_t) (why string) {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return "a folder"
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return "a symbolic link"
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "not an ordinary file"
	case st.Nlink > 1:
		return "it has another name somewhere"
	case st.Size > maxInboxFile:
		return fmt.Sprintf("%d bytes are too many", st.Size)
	}
	return ""
}

// written tells whether somebody has the file open for writing: then there is no lease for readers on
// it (fcntl(2), F_SETLEASE). Of a file of another user nobody may ask.
func written(f *os.File) bool {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}

// refuse leaves a file where it is, and says so once.
func (b *inbox) refuse(name, why string) {
	b.refused[name] = true
	kind := "inbox_refused"
	if why == wantsNone {
		kind = "audio_refused"
	}
	b.c.m.event(b.c.cfg.Name, kind, fmt.Sprintf("%q: %s", mediapipe.Text(name), why))
}

// remove removes the file that was handed over, unless the name is another file's by now.
func (b *inbox) remove(dir, f *os.File, name string) {
	var was, is unix.Stat_t
	err := errors.Join(unix.Fstat(int(f.Fd()), &was), unix.Fstatat(int(dir.Fd()), name, &is, unix.AT_SYMLINK_NOFOLLOW))
	if err == nil && (was.Dev != is.Dev || was.Ino != is.Ino) {
		return // the other one's turn comes with its close
	}
	if err == nil {
		err = unix.Unlinkat(int(dir.Fd()), name, 0)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		b.refused[name] = true // it is recorded, and not to be recorded again and again
		b.c.m.event(b.c.cfg.Name, "inbox_not_removed", err.Error())
	}
	delete(b.later, name)
	delete(b.open, name)
}

// hand hands a file over and waits until it is kept; otherwise it says why it is not.
func (b *inbox) hand(ctx context.Context, f *os.File, begin mediapipe.Begin) (why string) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err.Error()
	}
	if why := b.listen(f); why != "" {
		return why
	}
	begin.Size = st.Size
	if begin.Kind == mediapipe.Photo {
		begin.Trigger, begin.Index = mediapipe.TriggerInbox, -1
		begin.TakenUsec, begin.UncertaintyUsec = b.taken(&st, begin.Name)
	}
	out := b.c.m.newFile(begin)
	answer := b.c.m.kept.expect(out.begin.File)
	defer b.c.m.kept.forget(out.begin.File)
	if why := b.copy(ctx, f, out); why != "" {
		out.end(why)
		return why
	}
	if out.offset == 0 {
		return "" // nothing in it to be kept
	}
	if out.offset != st.Size {
		out.end("it was changed meanwhile")
		return "it was changed meanwhile"
	}
	out.end("")
	return b.await(ctx, answer)
}

// taken is when a photo was taken, as far as a file tells: at its last change, or before, back to when
// it was made. The file system's clock is the computer's, so only what has passed since counts.
func (b *inbox) taken(st *unix.Stat_t, name string) (usec, within int64) {
	now := b.c.m.cfg.Now()
	age := min(max(time.Since(time.Unix(st.Mtim.Unix())), 0), now)
	at, span := now-age, inboxWithin
	if made, ok := b.open[name]; ok && made <= at {
		span = max(span, at-made)
	} else {
		span = 10 * time.Second // nobody has seen it begin
	}
	return at.Microseconds(), span.Microseconds()
}

// listen looks through a whole file for sound, where there may be none.
func (b *inbox) listen(f *os.File) (why string) {
	check := soundCheck{off: b.c.cfg.Audio && b.c.m.cfg.Audio, file: true}
	buf := make([]byte, 64<<10)
	for at := int64(0); !check.off; {
		n, err := f.ReadAt(buf, at)
		if check.look(buf[:n]) == soundRefused {
			return wantsNone
		}
		if err != nil {
			break // the end, or what reading it will tell
		}
		at += int64(n)
		at += check.skip() // of what is of no interest
	}
	return ""
}

// copy hands over all pieces, and waits for room.
func (b *inbox) copy(ctx context.Context, f *os.File, out *file) (why string) {
	for {
		piece := newPiece()
		n, err := f.Read(piece[mediapipe.HeadRoom:])
		if n <= 0 {
			freePiece(piece)
			if err == nil || errors.Is(err, io.EOF) {
				return ""
			}
			return mediapipe.Text(err.Error())
		}
		if !out.writeWait(ctx, cut(piece, n)) {
			return "the media process ends"
		}
	}
}

// await waits for the recorder's word. It may have been started again and know nothing of the file.
func (b *inbox) await(ctx context.Context, answer <-chan *mediapipe.Kept) (why string) {
	for {
		select {
		case <-ctx.Done():
			return "the media process ends"
		case k := <-answer:
			if k.OK {
				return ""
			}
			return cmp.Or(k.Why, "it was not kept")
		case <-time.After(b.c.m.times.kept):
			if b.c.m.queue.empty() {
				return "the recorder does not answer"
			}
		}
	}
}
