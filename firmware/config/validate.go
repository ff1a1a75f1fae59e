package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/boards"
)

// Validate checks a configuration that was made by a program. Parse and Load have called it
// already. What is wrong comes as an *Error.
func (c *Config) Validate() error {
	return c.validate(func(string, int) int { return 0 })
}

// checker collects the first thing that is wrong.
type checker struct {
	line func(name string, link int) int
	link int // the element of a [[table]] that is being checked
	err  error
}

func (c *Config) validate(line func(string, int) int) error {
	k := &checker{line: line}
	k.board(c.Board)
	k.oneOf("lock.mode", c.Lock.Mode, ModeLocked, ModeBench)
	k.links(c)
	k.vault(c.Vault)
	k.usb(c.USB)
	k.shares(c)
	k.cameras(c)
	k.policy(c)
	k.paths(c)
	return k.err
}

// refuse keeps the first complaint.
func (k *checker) refuse(kind error, name, format string, args ...any) {
	if k.err == nil {
		k.err = &Error{Kind: kind, Key: name, Line: k.line(name, k.link), Reason: fmt.Sprintf(format, args...)}
	}
}

func (k *checker) oneOf(name, value string, known ...string) {
	if k.err != nil || slices.Contains(known, value) {
		return
	}
	k.refuse(ErrValue, name, `%s is not one of "%s"`, quoted(value), strings.Join(known, `", "`))
	k.err.(*Error).Known = known
}

func (k *checker) board(b Board) {
	known := []string{ProfileAuto}
	for _, b := range boards.All() {
		known = append(known, b.Name)
	}
	k.oneOf("board.profile", b.Profile, known...)
}

var linkName = regexp.MustCompile(`^[a-z0-9_-]+$`)

func (k *checker) links(c *Config) {
	if len(c.Link) == 0 {
		k.refuse(ErrMissing, linkTable, "missing: one [[link]] with name and device is needed")
	}
	names, devices := map[string]bool{}, map[string]bool{}
	for i, l := range c.Link {
		k.link = i
		k.shortName("link.name", l.Name)
		k.device(l.Device, c.Bench())
		if l.Baud < 1 || l.Baud > MaxBaud {
			k.refuse(ErrValue, "link.baud", "%d is outside 1 to %d", l.Baud, MaxBaud)
		}
		if names[l.Name] {
			k.refuse(ErrValue, "link.name", "%s is the name of another link too", quoted(l.Name))
		}
		if devices[l.Device] {
			k.refuse(ErrValue, "link.device", "%s is the device of another link too", quoted(l.Device))
		}
		names[l.Name], devices[l.Device] = true, true
		if k.err != nil {
			return
		}
	}
}

// shortName checks a name that stands in records: key says of what.
func (k *checker) shortName(key, name string) {
	switch {
	case name == "" && k.line(key, k.link) == 0:
		k.missing(key)
	case len(name) > MaxLinkName || !linkName.MatchString(name):
		k.refuse(ErrValue, key, "%s is not 1 to %d of a-z, 0-9, _ and -", quoted(name), MaxLinkName)
	}
}

// missing complains about a key of the present element; the line is that of its header.
func (k *checker) missing(name string) {
	if k.err == nil {
		table, _, _ := strings.Cut(name, ".")
		k.err = &Error{Kind: ErrMissing, Key: name, Line: k.line(table, k.link), Reason: "missing in this " + header(table, true)}
	}
}

// deviceScheme finds "tcp:" and its like. One letter is left alone: it could be a drive.
var deviceScheme = regexp.MustCompile(`^([a-z][a-z0-9]+):`)

func (k *checker) device(device string, bench bool) {
	const name = "link.device"
	if device == "" && k.line(name, k.link) == 0 {
		k.missing(name)
		return
	}
	m := deviceScheme.FindStringSubmatch(device)
	if m == nil {
		k.path(name, device)
		return
	}
	rest := strings.TrimPrefix(device, m[0])
	switch m[1] {
	case "tcp", "udp":
		k.loopback(name, rest)
	case "file":
		k.path(name, rest)
	default:
		k.refuse(ErrValue, name, "%s is no path, tcp:, udp: or file:", quoted(device))
	}
	if !bench {
		k.refuse(ErrValue, name, `%s is for the bench; it needs lock.mode = "bench"`, quoted(device))
	}
}

// loopback wants ADDRESS:PORT with an IP literal of this machine: a name would have to be
// looked up, and anything else could leave the board.
func (k *checker) loopback(name, address string) {
	ap, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || ap.Port() == 0:
		k.refuse(ErrValue, name, "%s is no IP address with a port, such as 127.0.0.1:5760", quoted(address))
	case !ap.Addr().IsLoopback() || ap.Addr().Zone() != "":
		k.refuse(ErrValue, name, "%s is not a loopback address (127.0.0.1 or ::1)", quoted(address))
	}
}

func (k *checker) vault(v Vault) {
	k.between("vault.flush_armed", v.FlushArmed, MaxFlushArmed)
	k.between("vault.flush_idle", v.FlushIdle, MaxFlushIdle)
	if v.Reserve < 0 {
		k.refuse(ErrValue, "vault.reserve", "%d bytes is below zero", v.Reserve)
	}
	k.oneOf("vault.record", v.Record, RecordAlways, RecordArmed)
	k.oneOf("vault.when_full", v.WhenFull, FullStop, FullOldest)
}

func (k *checker) between(name string, d, highest time.Duration) {
	if d < MinFlush || d > highest {
		k.refuse(ErrValue, name, "%v is outside %v to %v", d, MinFlush, highest)
	}
}

// path refuses what no file system takes and what would garble an error or a log.
func (k *checker) path(name, path string) {
	if path == "" {
		k.refuse(ErrValue, name, "must not be empty")
	}
	for _, c := range path {
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			k.refuse(ErrValue, name, "%s holds a control character", quoted(path))
		}
	}
}

func (k *checker) paths(c *Config) {
	files := []struct{ name, path string }{
		{"vault.recipients", c.Vault.Recipients}, {"vault.device_key", c.Vault.DeviceKey}, {"status.file", c.Status.File},
		{"lock.run", c.Lock.Run}, {"lock.ticket", c.Lock.Ticket}, {"lock.signers", c.Lock.Signers}, {"lock.used_numbers", c.Lock.UsedNumbers},
	}
	k.path("vault.path", c.Vault.Path)
	seen := map[string]string{filepath.Clean(c.Vault.Path): "vault.path"}
	for _, f := range files {
		k.path(f.name, f.path)
		clean := filepath.Clean(f.path)
		// Inside is told first: the vault is copied away whole, and the key must not go along.
		if f.name != "vault.recipients" && inside(c.Vault.Path, f.path) {
			k.refuse(ErrValue, f.name, "%s lies inside vault.path %s", quoted(f.path), quoted(c.Vault.Path))
		}
		if f.name == "vault.device_key" && inside(f.path, c.Vault.Path) {
			k.refuse(ErrValue, "vault.path", "%s lies inside vault.device_key %s", quoted(c.Vault.Path), quoted(f.path))
		}
		if other, taken := seen[clean]; taken {
			k.refuse(ErrValue, f.name, "%s is the path of %s too", quoted(f.path), other)
		}
		seen[clean] = f.name
	}
	k.lasting(c)
}

// lasting keeps out of the memory folder what a board must still have after its power was
// cut: with the used numbers gone, a ticket could be used again.
func (k *checker) lasting(c *Config) {
	for _, f := range []struct{ name, path string }{
		{"vault.path", c.Vault.Path}, {"vault.device_key", c.Vault.DeviceKey}, {"lock.used_numbers", c.Lock.UsedNumbers},
	} {
		if inside(c.Lock.Run, f.path) {
			k.refuse(ErrValue, f.name, "%s lies inside lock.run %s, which is gone with the power", quoted(f.path), quoted(c.Lock.Run))
		}
	}
}

// inside tells whether path is dir or lies below it, by their names alone. Two paths of
// which only one is relative cannot be compared and count as apart.
func inside(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return false
	}
	return rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
