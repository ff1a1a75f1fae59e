package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// variableFolder is where the kernel shows its variables.
const variableFolder = "proc/sys"

// loopback never leaves the board, and programs on it talk over it.
const loopback = "lo"

// variables holds a table of settings against the kernel. Some hundred variables are looked at
// each second: what is looked for, and the open files, are kept while the links are the same.
type variables struct {
	tree
	settings []setting
	open     []string // links that maintenance has open

	targets map[string][]string // the links in each folder
	list    []*variable         // nil: to be made anew
}

// variable is one file, and what it should hold.
type variable struct {
	name  string // as sysctl(8) writes it, for a reader
	path  string // below variableFolder
	value string
	least bool // a higher number will do

	file   *os.File // nil: not opened yet
	absent bool     // this kernel does not have it
}

func (v *variables) detect() error {
	if !v.exists(variableFolder + "/kernel") {
		return fmt.Errorf("%w: kernel variables (/proc/sys)", ErrAbsent)
	}
	return nil
}

// set writes what differs. Settings come in the order of the table: some set others back.
func (v *variables) set() (changes []Change, err error) {
	err = v.each(func(x *variable, have string) error {
		changes = append(changes, Change{What: x.name, Old: quoted(have), New: x.value})
		return v.setOne(x)
	})
	return changes, err
}

// disableAll is the one variable that reaches loopback: writing it takes ::1 away.
const disableAll = "net/ipv6/conf/all/disable_ipv6"

func (v *variables) setOne(x *variable) error {
	if x.path != disableAll {
		return v.write(variableFolder+"/"+x.path, x.value)
	}
	const ours = variableFolder + "/net/ipv6/conf/" + loopback + "/disable_ipv6"
	before, errBefore := v.read(ours)
	err := v.write(variableFolder+"/"+x.path, x.value)
	if errBefore == nil && before == "0" {
		err = errors.Join(err, v.write(ours, before))
	}
	return err
}

// compare names the first that differs, and counts the others.
func (v *variables) compare() error {
	var first string
	more := 0
	err := v.each(func(x *variable, have string) error {
		if first != "" {
			more++
			return nil
		}
		first = fmt.Sprintf("%s is %s, not %s", x.name, quoted(have), x.value)
		return nil
	})
	if first == "" {
		return err
	}
	if more > 0 {
		first += fmt.Sprintf(", and %d more", more)
	}
	return errors.New(first)
}

// each calls f with every variable that differs and what it holds. It goes on after a fault.
func (v *variables) each(f func(x *variable, have string) error) error {
	err := v.refresh()
	var errs []error
	if err != nil {
		errs = append(errs, err)
	}
	for _, x := range v.list {
		have, differs, err := x.look(v.tree)
		if err == nil && differs {
			err = f(x, have)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("%s: %w", x.name, err))
		}
	}
	return errors.Join(errs...)
}

// refresh makes the list anew where links have come or gone.
func (v *variables) refresh() error {
	targets := map[string][]string{}
	var errs []error
	for _, folder := range []string{conf4, conf6} {
		if !slices.ContainsFunc(v.settings, func(s setting) bool { return s.links() == folder }) {
			continue
		}
		names, err := v.names(variableFolder + "/" + folder)
		errs = append(errs, err)
		targets[folder] = slices.DeleteFunc(names, func(n string) bool { return n == loopback })
	}
	if v.list != nil && maps.EqualFunc(targets, v.targets, slices.Equal) {
		return errors.Join(errs...)
	}
	v.targets, v.list = targets, []*variable{}
	for _, s := range v.settings {
		v.list = append(v.list, s.on(targets[s.links()], v.open)...)
	}
	return errors.Join(errs...)
}

// look returns what the variable holds where that differs from what it should. A link that was
// taken away and came back has new files: the old ones say that they are gone.
func (x *variable) look(t tree) (have string, differs bool, err error) {
	if x.absent {
		return "", false, nil
	}
	for range 2 {
		if x.file == nil {
			if err := x.begin(t); err != nil {
				return "", false, err
			}
		}
		var buf [512]byte
		n, err := x.file.ReadAt(buf[:], 0)
		switch {
		case err == nil || errors.Is(err, io.EOF):
			return x.judge(bytes.TrimSpace(buf[:n]))
		case !gone(err):
			return "", false, err
		}
		x.file.Close()
		x.file = nil
	}
	return "", false, nil
}

// begin opens the file. What this kernel does not have is not asked for again, until links
// come or go.
func (x *variable) begin(t tree) error {
	path := t.path(variableFolder + "/" + x.path)
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		x.absent = gone(err)
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	x.file = os.NewFile(uintptr(fd), path)
	return nil
}

func (x *variable) judge(have []byte) (string, bool, error) {
	if string(have) == x.value {
		return "", false, nil
	}
	if x.least {
		n, err := strconv.Atoi(string(have))
		want, errWant := strconv.Atoi(x.value)
		if err == nil && errWant == nil && n >= want {
			return "", false, nil
		}
	}
	return string(have), true, nil
}

// links is the folder that tells which links there are: neighbours are those of the same links,
// and one listing less is one of hundreds of calls each second.
func (s setting) links() string {
	switch s.perLink {
	case neighbour4:
		return conf4
	case neighbour6:
		return conf6
	}
	return s.perLink
}

// on returns the variables of s: one, or one for each target where it goes by link.
func (s setting) on(targets, open []string) []*variable {
	if s.perLink == "" {
		return []*variable{{name: dotted(s.key), path: s.key, value: s.value, least: s.least}}
	}
	var list []*variable
	for _, t := range targets {
		x := &variable{name: dotted(s.perLink) + "." + t + "." + s.key, path: s.perLink + "/" + t + "/" + s.key, value: s.value, least: s.least}
		// Of two values, that of a link and that of all, the stricter one counts.
		if s.maintenance != "" && len(open) > 0 && (t == "all" || slices.Contains(open, t)) {
			x.value = s.maintenance
		}
		list = append(list, x)
	}
	return list
}

func dotted(path string) string { return strings.ReplaceAll(path, "/", ".") }

// quoted shows what stands in a file: one line, printable, not too long.
func quoted(s string) string {
	const most = 64
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	if q := strconv.QuoteToGraphic(s); s == "" || len(q) != len(s)+2 {
		return q
	}
	return s
}
