package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Marshal writes c as a commented holdfast.toml. What Parse makes of it equals c, paths
// apart if they are relative. A configuration that Validate refuses is not written.
func Marshal(c *Config) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("# Holdfast: configuration of one board. It holds no secret.\n" +
		"# Relative paths are relative to this file. Unknown keys are refused.\n")
	tables := []string{"board", linkTable, "vault", "lock", "usb", "status"}
	for _, table := range tables {
		if table != linkTable {
			writeTable(&b, table, c, nil)
			continue
		}
		for i := range c.Link {
			writeTable(&b, table, c, &c.Link[i])
		}
	}
	return []byte(b.String()), nil
}

// commentColumn is where comments begin, so that they stand in one line below each other.
const commentColumn = 34

func writeTable(b *strings.Builder, table string, c *Config, l *Link) {
	fmt.Fprintf(b, "\n%s\n", header(table, l != nil))
	for _, k := range keys {
		name, ok := strings.CutPrefix(k.name, table+".")
		if !ok {
			continue
		}
		fmt.Fprintf(b, "%-*s # %s\n", commentColumn, name+" = "+k.format(c, l), k.comment)
	}
}

func (k key) format(c *Config, l *Link) string {
	switch {
	case k.integer != nil:
		return strconv.Itoa(*k.integer(c, l))
	case k.duration != nil:
		return quote(k.duration(c, l).String())
	case k.size != nil:
		return quote(formatSize(*k.size(c, l)))
	case k.devices != nil:
		return formatDevices(*k.devices(c, l))
	}
	return quote(*k.text(c, l))
}

// quote writes a TOML basic string. Validate has refused control characters.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
