package config

import (
	"slices"
	"strings"
	"time"
)

// A key is one line of holdfast.toml. The table of keys is the only list of them: reading,
// writing and hints all go by it.
type key struct {
	name    string // such as "vault.path"
	comment string // for Marshal: what it does and what it takes

	// One of these points at the value of the key, in c or for a link in l.
	text     func(c *Config, l *Link) *string
	integer  func(c *Config, l *Link) *int
	duration func(c *Config, l *Link) *time.Duration
	size     func(c *Config, l *Link) *int64
	devices  func(c *Config, l *Link) *[]USBRule
}

var keys = []key{
	{name: "board.profile", comment: `a name of "holdfast boards", or "auto"`,
		text: func(c *Config, _ *Link) *string { return &c.Board.Profile }},

	{name: "link.name", comment: "a short name, [a-z0-9_-], for records and reports",
		text: func(_ *Config, l *Link) *string { return &l.Name }},
	{name: "link.device", comment: "the serial port of the autopilot; on the bench also tcp:, udp: or file:",
		text: func(_ *Config, l *Link) *string { return &l.Device }},
	{name: "link.baud", comment: "bit/s",
		integer: func(_ *Config, l *Link) *int { return &l.Baud }},

	{name: "vault.path", comment: "folder of the sealed records",
		text: func(c *Config, _ *Link) *string { return &c.Vault.Path }},
	{name: "vault.recipients", comment: "who can open them: one recipient a line",
		text: func(c *Config, _ *Link) *string { return &c.Vault.Recipients }},
	{name: "vault.device_key", comment: "signs the public log; made at first start, stays outside the vault",
		text: func(c *Config, _ *Link) *string { return &c.Vault.DeviceKey }},
	{name: "vault.flush_armed", comment: "at most this much waits in memory while armed (10ms to 5s)",
		duration: func(c *Config, _ *Link) *time.Duration { return &c.Vault.FlushArmed }},
	{name: "vault.flush_idle", comment: "the same while not armed (10ms to 60s)",
		duration: func(c *Config, _ *Link) *time.Duration { return &c.Vault.FlushIdle }},
	{name: "vault.reserve", comment: "free space that only telemetry may use (B, KiB, MiB, GiB)",
		size: func(c *Config, _ *Link) *int64 { return &c.Vault.Reserve }},
	{name: "vault.record", comment: `"always", or "armed": only from arming to disarming`,
		text: func(c *Config, _ *Link) *string { return &c.Vault.Record }},
	{name: "vault.when_full", comment: `"stop", or "oldest": give up the oldest record`,
		text: func(c *Config, _ *Link) *string { return &c.Vault.WhenFull }},

	{name: "lock.mode", comment: `"locked", or "bench": nothing on the host is changed`,
		text: func(c *Config, _ *Link) *string { return &c.Lock.Mode }},
	{name: "lock.run", comment: "folder in memory where guard and recorder meet",
		text: func(c *Config, _ *Link) *string { return &c.Lock.Run }},
	{name: "lock.ticket", comment: `where a ticket for maintenance is put ("holdfast ticket")`,
		text: func(c *Config, _ *Link) *string { return &c.Lock.Ticket }},
	{name: "lock.signers", comment: "whose tickets are admitted; without the file nobody's",
		text: func(c *Config, _ *Link) *string { return &c.Lock.Signers }},
	{name: "lock.used_numbers", comment: "tickets that were used; must last, stays outside the vault",
		text: func(c *Config, _ *Link) *string { return &c.Lock.UsedNumbers }},

	{name: "usb.allow", comment: `what stays in use: "1-1.4 0403:6001" (port, vendor:product) or "* 1209:5740"`,
		devices: func(c *Config, _ *Link) *[]USBRule { return &c.USB.Allow }},

	{name: "status.file", comment: "rewritten each second: state, counts, last error",
		text: func(c *Config, _ *Link) *string { return &c.Status.File }},
}

// later holds the tables that are named already but not built yet.
var later = []string{"share", "camera", "policy"}

const linkTable = "link"

func lookup(name string) (key, bool) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return key{}, false
	}
	return keys[i], true
}

// Keys returns the names of all keys, such as "vault.path", in the order of the file.
func Keys() []string {
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	return names
}

func isTable(name string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return strings.HasPrefix(k.name, name+".") })
}
