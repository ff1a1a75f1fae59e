package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Parse reads the text of a holdfast.toml: defaults, then what data says, then Validate.
// Relative paths become paths below dir; with an empty dir they stay as they are.
// What is wrong comes as an *Error.
func Parse(data []byte, dir string) (*Config, error) {
	if err := checkText(data); err != nil {
		return nil, err
	}
	r := &reader{data: data, config: Default(), at: map[string]int{}}
	if err := r.read(); err != nil {
		return nil, err
	}
	// Resolved first: only then can a relative path be told to lie inside an absolute one.
	r.config.resolve(dir)
	if err := r.config.validate(r.line); err != nil {
		return nil, err
	}
	return r.config, nil
}

// checkText refuses what no TOML parser should see, with words that say what it is.
func checkText(data []byte) error {
	if len(data) > MaxFileSize {
		return &Error{Kind: ErrSyntax, Reason: ErrTooLarge.Error()}
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return &Error{Kind: ErrSyntax, Line: 1, Reason: "starts with a byte order mark; save it as UTF-8 without one"}
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return &Error{Kind: ErrSyntax, Line: lineAt(data, i), Reason: "not UTF-8 text"}
		}
		i += n
	}
	// The decoder knows TOML's rules about tables and keys said twice; the reader after it
	// only has to know ours.
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return syntaxError(data, err)
	}
	return nil
}

func syntaxError(data []byte, err error) error {
	e := &Error{Kind: ErrSyntax, Reason: strings.TrimPrefix(err.Error(), "toml: ")}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		e.Line, _ = de.Position()
	}
	var pe *unstable.ParserError
	if errors.As(err, &pe) {
		e.Line = lineAt(data, cap(data)-cap(pe.Highlight))
	}
	return e
}

// reader turns the expressions of one document into a Config.
type reader struct {
	data   []byte
	parser unstable.Parser
	config *Config
	table  string         // of the last [table] header; empty before the first
	at     map[string]int // byte offset of each key that was set, by its place
}

func (r *reader) read() error {
	r.parser.Reset(r.data)
	for r.parser.NextExpression() {
		if err := r.expression(r.parser.Expression()); err != nil {
			return err
		}
	}
	if err := r.parser.Error(); err != nil {
		return syntaxError(r.data, err)
	}
	return nil
}

func (r *reader) expression(n *unstable.Node) error {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable:
		name, offset := keyName(n)
		r.table = name
		return r.header(name, n.Kind == unstable.ArrayTable, offset)
	case unstable.KeyValue:
		return r.keyValue(r.table, n)
	}
	return nil
}

// header takes [name] or, where array is true, [[name]].
func (r *reader) header(name string, array bool, offset int) error {
	_, _, nested := strings.Cut(name, ".")
	switch {
	case nested || !isTable(name):
		return r.unknown(name, offset)
	case array != isArray(name):
		return r.fail(ErrValue, name, offset, "is written "+header(name, !array))
	case array:
		r.at[place(name, r.config.grow(name))] = offset
	}
	return nil
}

// grow adds an element with its defaults to a [[table]] and returns its index.
func (c *Config) grow(table string) int {
	switch table {
	case shareTable:
		c.Share = append(c.Share, DefaultShare())
		return len(c.Share) - 1
	case cameraTable:
		c.Camera = append(c.Camera, DefaultCamera())
		return len(c.Camera) - 1
	}
	c.Link = append(c.Link, Link{Baud: DefaultBaud})
	return len(c.Link) - 1
}

// element returns what a key of a table belongs to: the element with an index of a [[table]].
func (c *Config) element(table string, index int) target {
	t := target{Config: c}
	switch table {
	case linkTable:
		t.link = &c.Link[index]
	case shareTable:
		t.share = &c.Share[index]
	case cameraTable:
		t.camera = &c.Camera[index]
	}
	return t
}

// size is the number of elements of a [[table]], 1 for any other.
func (c *Config) size(table string) int {
	switch table {
	case linkTable:
		return len(c.Link)
	case shareTable:
		return len(c.Share)
	case cameraTable:
		return len(c.Camera)
	}
	return 1
}

func header(name string, array bool) string {
	if array {
		return "[[" + name + "]]"
	}
	return "[" + name + "]"
}

// keyValue takes one assignment below table, which may be empty.
func (r *reader) keyValue(table string, n *unstable.Node) error {
	name, offset := keyName(n)
	if table != "" {
		name = table + "." + name
	}
	value := n.Value()
	top, _, _ := strings.Cut(name, ".")
	switch k, known := lookup(name); {
	case isArray(top) && r.table != top:
		return r.fail(ErrValue, top, offset, "is written "+header(top, true)+", with one key on each line below it")
	case known:
		return r.set(k, value, offset)
	case isTable(name) && value.Kind == unstable.InlineTable:
		return r.inline(name, value)
	case isTable(name):
		return r.fail(ErrValue, name, offset, "is a table, written ["+name+"]")
	}
	return r.unknown(name, offset)
}

func (r *reader) inline(table string, n *unstable.Node) error {
	for it := n.Children(); it.Next(); {
		if it.Node().Kind != unstable.KeyValue {
			continue
		}
		if err := r.keyValue(table, it.Node()); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) set(k key, n *unstable.Node, offset int) error {
	table, _, _ := strings.Cut(k.name, ".")
	index := r.config.size(table) - 1
	t := r.config.element(table, index)
	r.at[place(k.name, index)] = offset
	switch {
	case k.devices != nil:
		return r.devices(k, n, offset)
	case k.words != nil:
		return r.words(k, t, n, offset)
	}
	if reason := assign(k, t, n); reason != "" {
		return r.fail(ErrValue, k.name, offset, reason)
	}
	return nil
}

// words takes a list of texts.
func (r *reader) words(k key, t target, n *unstable.Node, offset int) error {
	const form = `must be a list of texts, such as ["one", "two"]`
	if n.Kind != unstable.Array {
		return r.fail(ErrValue, k.name, offset, form)
	}
	var list []string
	for it := n.Children(); it.Next(); {
		if it.Node().Kind != unstable.String {
			return r.fail(ErrValue, k.name, offset, form)
		}
		list = append(list, string(it.Node().Data))
	}
	*k.words(t) = list
	return nil
}

// devices takes a list of USB devices. A fault is told with the line of the device.
func (r *reader) devices(k key, n *unstable.Node, offset int) error {
	const form = `must be a list of texts, such as ["1-1.4 0403:6001", "* 1209:5740"]`
	if n.Kind != unstable.Array {
		return r.fail(ErrValue, k.name, offset, form)
	}
	list := k.devices(target{Config: r.config})
	for it := n.Children(); it.Next(); {
		item := it.Node()
		if item.Kind != unstable.String {
			return r.fail(ErrValue, k.name, offset, form)
		}
		rule, err := ParseUSBRule(string(item.Data))
		if err != nil {
			return r.fail(ErrValue, k.name, int(item.Raw.Offset), err.Error())
		}
		*list = append(*list, rule)
	}
	return nil
}

// assign stores the value of n. It returns what is wrong with it, or nothing.
func assign(k key, t target, n *unstable.Node) (reason string) {
	if k.truth != nil {
		if n.Kind != unstable.Bool {
			return "must be true or false"
		}
		*k.truth(t) = string(n.Data) == "true"
		return ""
	}
	if k.integer != nil {
		if n.Kind != unstable.Integer {
			return "must be a whole number"
		}
		v, err := strconv.ParseInt(string(n.Data), 0, 32)
		if err != nil {
			return string(n.Data) + " is out of range"
		}
		*k.integer(t) = int(v)
		return ""
	}
	if n.Kind != unstable.String {
		return `must be a text in quotes` + example(k)
	}
	var err error
	switch text := string(n.Data); {
	case k.text != nil:
		*k.text(t) = text
	case k.duration != nil:
		*k.duration(t), err = parseDuration(text)
	case k.size != nil:
		*k.size(t), err = parseSize(text)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func example(k key) string {
	switch {
	case k.duration != nil:
		return `, such as "200ms"`
	case k.size != nil:
		return `, such as "256MiB"`
	}
	return ""
}

func (r *reader) fail(kind error, name string, offset int, reason string) error {
	return &Error{Kind: kind, Key: name, Line: lineAt(r.data, offset), Reason: reason}
}

func (r *reader) unknown(name string, offset int) error {
	return &Error{Kind: ErrUnknownKey, Key: name, Line: lineAt(r.data, offset), Known: Keys()}
}

// line finds the line of a key that was set, or 0. Elements of a [[table]] are counted from 0.
func (r *reader) line(name string, link int) int {
	offset, ok := r.at[place(name, link)]
	if !ok {
		return 0
	}
	return lineAt(r.data, offset)
}

// place names a key of a document. Only keys of a [[table]] need the index of their element.
func place(name string, link int) string {
	if table, _, _ := strings.Cut(name, "."); isArray(table) {
		return fmt.Sprintf("%d/%s", link, name)
	}
	return name
}

// keyName joins the parts of a key by dots; parts that are no bare keys are quoted, so that
// nothing odd reaches a terminal. offset is where the key begins.
func keyName(n *unstable.Node) (name string, offset int) {
	var parts []string
	for it := n.Key(); it.Next(); {
		if len(parts) == 0 {
			offset = int(it.Node().Raw.Offset)
		}
		parts = append(parts, shown(string(it.Node().Data)))
		if len(parts) > maxParts {
			parts[maxParts] = "..."
			break
		}
	}
	return strings.Join(parts, "."), offset
}

const (
	maxShown = 64 // bytes of somebody's text that fit into a one-line error
	maxParts = 4  // parts of a dotted key that are read; ours have two
)

func shown(part string) string {
	bare := part != ""
	for _, c := range part {
		bare = bare && (c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	if bare && len(part) <= maxShown {
		return part
	}
	return quoted(part)
}

// quoted shows somebody's text in an error: one line, printable, not too long.
func quoted(s string) string {
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "..."
	}
	return strconv.QuoteToGraphic(s)
}

func lineAt(data []byte, offset int) int {
	offset = min(max(offset, 0), len(data))
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}
