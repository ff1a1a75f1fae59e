package confine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Rights on files, and on folders with all below. The kernel takes no right for a file that
// only a folder can have.
const (
	readFile   = ll.AccessFSReadFile
	readFolder = readFile | ll.AccessFSReadDir
	useLine    = readFile | ll.AccessFSWriteFile | ll.AccessFSIoctlDev
	runFile    = readFile | ll.AccessFSExecute
	// No link to outside, device, socket, pipe or symbolic link is ever made.
	writeFolder = readFolder | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir |
		ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSRefer
)

// versions of Landlock that Go's package knows, by number.
var versions = []landlock.Config{{}, landlock.V1, landlock.V2, landlock.V3, landlock.V4, landlock.V5, landlock.V6, landlock.V7,
	landlock.V8, landlock.V9, landlock.V10, landlock.V11}

// scopeSignal is LANDLOCK_SCOPE_SIGNAL of linux/landlock.h: no signals to processes outside.
const scopeSignal = 1 << 1

// oneDomain is the first version of Landlock which restricts all threads of a process as one.
const oneDomain = 8

// latest returns all that this kernel's Landlock can restrict.
func latest() (landlock.Config, error) {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return landlock.Config{}, &missing{"this kernel has no Landlock, or it is not switched on"}
	}
	c := versions[min(abi, len(versions)-1)]
	if abi < oneDomain {
		// Each thread has a domain of its own then, and could not end a child that another one
		// has started.
		c.Scoped &^= scopeSignal
	}
	return c, nil
}

// A rule gives rights on one path. What the kernel does not know of them falls away.
type rule struct {
	path   string
	rights landlock.AccessFSSet
}

// restrict applies c with rules. ports are those of o's links.
func restrict(c landlock.Config, rules []rule, o Options) error {
	var all []landlock.Rule
	for _, r := range rules {
		if rights := r.rights & c.HandledAccessFS; rights != 0 {
			all = append(all, landlock.PathAccess(rights, r.path).IgnoreIfMissing())
		}
	}
	if c.HandledAccessNet != 0 {
		for _, port := range o.TCP {
			all = append(all, landlock.ConnectTCP(port))
		}
	}
	if c.HandledAccessNet&ll.AccessNetBindUDP != 0 {
		for _, port := range o.UDP {
			all = append(all, landlock.BindUDP(port))
		}
	}
	if err := c.Restrict(all...); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return nil
}

// partly names what an older Landlock cannot do, once the rest is in force.
func partly(c landlock.Config) error {
	var lacks []string
	for _, p := range []struct {
		what string
		has  bool
	}{
		{"truncating files", c.HandledAccessFS&ll.AccessFSTruncate != 0},
		{"control calls of devices", c.HandledAccessFS&ll.AccessFSIoctlDev != 0},
		{"TCP", c.HandledAccessNet != 0},
		{"signals to others", c.Scoped&scopeSignal != 0},
	} {
		if !p.has {
			lacks = append(lacks, p.what)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return &missing{"this kernel's version does not know of: " + strings.Join(lacks, ", ")}
}

// restrictFiles leaves the files of o, and of the network what o's links need.
func restrictFiles(o Options) error {
	c, err := latest()
	if err != nil {
		return err
	}
	if o.Send && len(o.UDP) > 0 {
		c.HandledAccessNet &^= ll.AccessNetConnectSendUDP // answers go to whatever port something came from
	}
	if err := restrict(c, rules(o), o); err != nil {
		return err
	}
	return partly(c)
}

// restrictAll leaves nothing.
func restrictAll() error {
	c, err := latest()
	if err != nil {
		return err
	}
	return restrict(c, nil, Options{})
}

// restrictPrograms leaves the programs of o to run, and of the network what its links need.
// Files are for the children to give up.
func restrictPrograms(o Options) error {
	c, err := latest()
	if err != nil {
		return err
	}
	c.HandledAccessFS &= ll.AccessFSExecute | ll.AccessFSMakeChar | ll.AccessFSMakeBlock | ll.AccessFSMakeSock | ll.AccessFSResolveUnix
	list := programs(o)
	if o.Media {
		for _, path := range systemFolders {
			list = append(list, rule{path, runFile})
		}
	}
	return restrict(c, list, o)
}

func programs(o Options) (rules []rule) {
	for _, path := range o.Programs {
		rules = append(rules, rule{path, runFile})
	}
	return rules
}

// rules turns o into rules. What is not there yet is covered by the folder it will be in.
func rules(o Options) []rule {
	list := append(programs(o), rule{os.DevNull, readFile | ll.AccessFSWriteFile})
	for _, path := range o.Read {
		rights := landlock.AccessFSSet(readFile)
		if path = existing(path); isFolder(path) {
			rights = readFolder
		}
		list = append(list, rule{path, rights})
	}
	for _, path := range o.Write {
		// What stands in the way of a folder is told by who uses it.
		if isFolder(path) {
			list = append(list, rule{path, writeFolder})
		}
	}
	for _, path := range o.Make {
		if path = existing(filepath.Dir(path)); isFolder(path) {
			list = append(list, rule{path, writeFolder})
		}
	}
	for _, path := range o.Pipes {
		list = append(list, rule{path, readFile | ll.AccessFSWriteFile})
	}
	for _, path := range o.Remove {
		list = append(list, rule{path, ll.AccessFSRemoveFile})
	}
	for _, path := range o.Lines {
		list = append(list, rule{line(path), useLine})
	}
	return list
}

// existing returns path or, where it is not there, the nearest folder above it that is.
func existing(path string) string {
	for path != filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
	return path
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// devices is the folder of devices.
const devices = "/dev"

// line returns what a rule for a serial line has to name: the device where it is part of the
// board; the folder where it is plugged in, because each time the device is another one; all
// devices where it is not there. Who may open what is still for the modes of the devices.
func line(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return devices
	}
	info, err := os.Stat(real)
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return devices
	}
	name := filepath.Base(real)
	folder := filepath.Dir(real)
	if folder != devices || strings.HasPrefix(name, "ttyACM") || strings.HasPrefix(name, "ttyUSB") {
		return folder
	}
	return real
}

// overlaps names a file that is only to be read and lies in a folder that may be written: Landlock
// knows no exception within a folder. Modes and owners of the files decide then.
func overlaps(o Options) string {
	for _, file := range o.Read {
		for _, folder := range o.Write {
			if rel, err := filepath.Rel(folder, file); err == nil && filepath.IsLocal(rel) {
				return fmt.Sprintf("%s lies below %s, into which the recorder writes", filepath.Base(file), filepath.Base(folder))
			}
		}
	}
	return ""
}
