package flight

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/storage/segment"
)

// namer gives the files of a record their names. They are made of counters and of words from
// short lists; of what is sealed only a camera's name and a format go in, and those only where
// they are harmless as they stand.
type namer struct {
	used    map[string]bool
	count   map[string]int
	cameras map[string]string // by what the record calls them
}

func newNamer() *namer {
	return &namer{used: map[string]bool{}, count: map[string]int{}, cameras: map[string]string{}}
}

// Folders of a record for files.
const (
	autopilotDir = "autopilot"
	mediaDir     = "media"
)

// file returns the name of a new file, below the record's folder.
func (n *namer) file(letter byte, m *segment.File, goesOn bool) string {
	if letter == segment.StreamAutopilot {
		return n.autopilot(m, goesOn)
	}
	dir := mediaDir + "/" + n.camera(m.Source) + "/"
	if letter == segment.StreamVideo {
		return n.unique(dir+fmt.Sprintf("V%06d", m.ID)+continued(goesOn), "."+format(m.Format, "dat"))
	}
	return n.photo(dir, m, goesOn)
}

// autopilot names a log by its number and how it came, all else by a counter.
func (n *namer) autopilot(m *segment.File, goesOn bool) string {
	dir := autopilotDir + "/"
	if m.Kind == segment.KindLog {
		log := m.Log
		if log < 0 || log > maxID {
			log = 0
		}
		return n.unique(fmt.Sprintf("%s%08d-%s%s", dir, log, logSource(m.Source), continued(goesOn)), "."+format(m.Format, "dat"))
	}
	word, ext := "other", "dat"
	switch m.Kind {
	case segment.KindParams:
		word, ext = "params", "param"
	case segment.KindMission:
		word, ext = "mission", "waypoints"
	case segment.KindAutopilot:
		word, ext = "autopilot", "json"
	case segment.KindReport:
		word, ext = "crosscheck", "json"
	}
	n.count[word]++
	return n.unique(fmt.Sprintf("%s%s-%d%s", dir, word, n.count[word], continued(goesOn)), "."+format(m.Format, ext))
}

// photo names a photo by its index, one that has none by the number of its file. The name
// without its extension is that of its sidecar too, so that is what has to be free.
func (n *namer) photo(dir string, m *segment.File, goesOn bool) string {
	base := fmt.Sprintf("%sPN%06d", dir, m.ID)
	if m.Photo != nil && m.Photo.Index >= 0 && m.Photo.Index <= maxID {
		base = fmt.Sprintf("%sP%06d", dir, m.Photo.Index)
	}
	ext := format(m.Format, "dat")
	if ext == "json" {
		ext = "dat" // the sidecar's
	}
	return n.unique(base+continued(goesOn), "") + "." + ext
}

// continued marks the part of a file that began in the record before.
func continued(goesOn bool) string { return either(goesOn, "-continued", "") }

// unique returns base and ext, with a number between them where that name is taken.
func (n *namer) unique(base, ext string) string {
	name := base + ext
	for n.used[name] {
		n.count[base]++
		name = fmt.Sprintf("%s-%d%s", base, n.count[base]+1, ext)
	}
	n.used[name] = true
	return name
}

// camera returns the folder of a camera.
func (n *namer) camera(name string) string {
	if dir, ok := n.cameras[name]; ok {
		return dir
	}
	if len(n.cameras) >= maxCameras {
		return "camera-others"
	}
	dir := name
	for taken := !cameraName(name) || n.used[mediaDir+"/"+dir]; taken; taken = n.used[mediaDir+"/"+dir] {
		n.count[mediaDir]++
		dir = fmt.Sprintf("camera-%d", n.count[mediaDir])
	}
	n.used[mediaDir+"/"+dir] = true
	n.cameras[name] = dir
	return dir
}

// maxCameras bounds the folders of cameras.
const maxCameras = 256

// cameraName tells a name that is harmless as that of a folder.
func cameraName(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == "" && !reserved(s)
}

// reserved tells the names that Windows keeps for devices
// (https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
func reserved(s string) bool {
	if len(s) == 4 && (s[:3] == "com" || s[:3] == "lpt") && s[3] >= '0' && s[3] <= '9' {
		return true
	}
	return slices.Contains([]string{"con", "prn", "aux", "nul"}, s)
}

// format returns what is sealed as a file's extension where it is one, else other.
func format(s, other string) string {
	if len(s) < 1 || len(s) > 8 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return other
	}
	return s
}

// logSource is how a log came.
func logSource(s string) string {
	if slices.Contains([]string{"stream", "pull", "ftp"}, s) {
		return s
	}
	return "other"
}
