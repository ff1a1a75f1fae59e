package aplog

import (
	"bytes"
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ftpFolder are where logs lie: on a flight controller's card, and in the simulators.
func ftpFolders(flavour uint8) []string {
	if flavour == PX4 {
		return []string{"/fs/microsd/log", "/log"}
	}
	return []string{"/APM/LOGS", "/logs", "logs"}
}

// Bounds of what a listing may bring.
const (
	ftpMaxFolders = 128
	ftpMaxPages   = 4096
)

// ftpLister lists the folders that logs lie in.
type ftpLister struct {
	c       *ftpClient
	folders []string // to list
	deeper  bool     // their folders are to be listed, too
	offset  uint32
	files   []entry
	pages   int
	done    bool
	ok      bool // a folder could be listed
	silent  bool // nobody answers
}

func (l *Logs) newFTPLister(c *ftpClient) *ftpLister {
	return &ftpLister{c: c, folders: ftpFolders(l.flavour), deeper: l.flavour == PX4}
}

func (s *ftpLister) step(now time.Duration) time.Duration {
	for !s.done && !s.c.under {
		if len(s.folders) == 0 || s.pages >= ftpMaxPages || len(s.files) >= maxEntries {
			s.done = true
			break
		}
		s.pages++
		s.c.path(ftpList, s.folders[0], s.offset, listTimeout, s.reply)
	}
	return s.c.step(now)
}

func (s *ftpLister) reply(m ftpMessage, ok bool) {
	switch {
	case !ok:
		s.done, s.silent = true, !s.ok
	case m.op != ftpAck || len(m.data) == 0:
		s.leave()
	default:
		s.page(m.data)
	}
}

// leave goes on with the next folder. One that was found makes the other places needless.
func (s *ftpLister) leave() {
	s.folders = s.folders[1:]
	s.offset = 0
}

// page takes entries: a letter, a name, of a file also a tab and its size, a zero byte.
func (s *ftpLister) page(p []byte) {
	folder := s.folders[0]
	if !s.ok {
		s.ok, s.folders = true, s.folders[:1]
	}
	for _, e := range bytes.Split(bytes.TrimRight(p, "\x00"), []byte{0}) {
		if len(e) == 0 {
			continue // ArduPilot ends an entry with two zero bytes
		}
		s.offset++ // PX4 counts those it skips, too: it sends an S for them
		if len(e) > 1 {
			s.entry(folder, e[0], string(e[1:]))
		}
	}
}

func (s *ftpLister) entry(folder string, kind byte, name string) {
	switch {
	case strings.Contains(name, "/") || name == "." || name == "..":
	case kind == 'D' && s.deeper && strings.HasSuffix(folder, "/log") && len(s.folders) < ftpMaxFolders:
		s.folders = append(s.folders, path.Join(folder, name))
	case kind == 'F':
		name, size, _ := strings.Cut(name, "\t")
		n, err := strconv.ParseUint(size, 10, 32)
		ext := strings.ToLower(path.Ext(name))
		if err == nil && (ext == ".bin" || ext == ".ulg") && len(s.files) < maxEntries {
			s.files = append(s.files, entry{id: logNumber(name), size: int64(n), path: folder + "/" + name})
		}
	}
}

// logNumber is the number that is a log's name, 0 where it has none: ArduPilot calls them 00000012.BIN.
func logNumber(name string) uint16 {
	n, err := strconv.ParseUint(strings.TrimSuffix(name, path.Ext(name)), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// match finds the files of the logs that LOG_ENTRY named, and gives each its path. A log whose
// file is in doubt keeps none and is pulled by LOG_REQUEST_DATA.
func match(logs, files []entry, flavour uint8) {
	if flavour == ArduPilot {
		matchByOrder(logs, files)
		return
	}
	matchBySize(logs, files)
}

// matchByOrder: ArduPilot's entries are its files in order, counted from 1.
func matchByOrder(logs, files []entry) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b entry) int { return cmp.Compare(a.id, b.id) })
	for i := range logs {
		if n := int(logs[i].id) - 1; n >= 0 && n < len(files) && files[n].size == logs[i].size {
			logs[i].path = files[n].path
		}
	}
}

// matchBySize: PX4's entries are in no order, but logs of the same size are rare.
func matchBySize(logs, files []entry) {
	count := map[int64]int{}
	at := map[int64]string{}
	for _, f := range files {
		count[f.size]++
		at[f.size] = f.path
	}
	seen := map[int64]int{}
	for _, e := range logs {
		seen[e.size]++
	}
	for i, e := range logs {
		if count[e.size] == 1 && seen[e.size] == 1 {
			logs[i].path = at[e.size]
		}
	}
}

// asEntries gives files numbers, where the autopilot knows nothing but FTP: newest first by name.
func asEntries(files []entry, flavour uint8) []entry {
	out := slices.Clone(files)
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(b.path, a.path) })
	for i := range out {
		out[i].moves, out[i].num = flavour == PX4, len(out)
		if out[i].id == 0 {
			out[i].id = uint16(len(out) - i)
		}
	}
	return out
}
