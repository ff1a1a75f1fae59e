package firmware

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"holdfast/boards"
)

// guardUnit is the service that may lock the whole machine: scripts/systemd.
const guardUnit = "holdfast-guard.service"

// ErrNotBoard: the network lock would cut off a machine that is not known to be a board.
var ErrNotBoard = errors.New("the network lock would cut this machine off, and nothing says that it is a board: " +
	"its device tree is none that `holdfast boards` lists, and " + guardUnit + ` did not start the guard; on a bench set lock.mode = "bench"`)

// boardsGuard tells whether a guard of this process is the one of a whole machine: a known board,
// or one whose service manager or init started the guard. Any other guard has the network
// namespace alone that it was put in, and package netlock refuses one that has hardware in it.
func boardsGuard() bool {
	own, errOwn := os.Readlink("/proc/self/ns/net")
	first, errFirst := os.Readlink("/proc/1/ns/net")
	if errOwn != nil || errFirst != nil || own != first {
		return false
	}
	_, known := boards.Detect(os.DirFS("/"))
	return known || inUnit() || initIsOurs()
}

// inUnit tells whether the service manager runs this process as the guard's service. The
// environment would not tell: children inherit it.
func inUnit() bool {
	p, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(p)) {
		// 0::/system.slice/holdfast-guard.service
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && filepath.Base(parts[2]) == guardUnit {
			return true
		}
	}
	return false
}

// initIsOurs tells whether the machine's first process is this program: the image.
func initIsOurs() bool {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return false
	}
	first, err := os.Readlink("/proc/1/exe")
	return err == nil && own == first && os.Getpid() != 1
}
