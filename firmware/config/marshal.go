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
	for _, table := range []string{"board", linkTable, "vault", "policy", cameraTable, shareTable, "lock", "usb", "status"} {
		for i := range c.size(table) {
			writeTable(&b, table, c.element(table, i))
		}
	}
	return []byte(b.String()), nil
}

// commentColumn is where comments begin, so that they stand in one line below each other.
const commentColumn = 34

func writeTable(b *strings.Builder, table string, t target) {
	fmt.Fprintf(b, "\n%s\n", header(table, isArray(table)))
	for _, k := range keys {
		name, ok := strings.CutPrefix(k.name, table+".")
		if !ok {
			continue
		}
		fmt.Fprintf(b, "%-*s # %s\n", commentColumn, name+" = "+k.format(t), k.comment)
	}
}

func (k key) format(t target) string {
	switch {
	case k.integer != nil:
		return strconv.Itoa(*k.integer(t))
	case k.truth != nil:
		return strconv.FormatBool(*k.truth(t))
	case k.duration != nil:
		return quote(k.duration(t).String())
	case k.size != nil:
		return quote(formatSize(*k.size(t)))
	case k.devices != nil:
		return formatDevices(*k.devices(t))
	case k.words != nil:
		return formatWords(*k.words(t))
	}
	return quote(*k.text(t))
}

func formatWords(words []string) string {
	var texts []string
	for _, w := range words {
		texts = append(texts, quote(w))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// quote writes a TOML basic string. Validate has refused control characters.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
