package netaudit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/cmd/holdfast-bench/internal/audit"
	"holdfast/firmware/evidence"
)

// Result is what the audit found. It carries no dates, so that the same board gives the same.
type Result struct {
	OK       bool              `json:"ok"`
	Failures []string          `json:"failures,omitempty"`
	Quick    bool              `json:"quick"`
	Repeats  int               `json:"repeats"` // of each race
	Kernel   string            `json:"kernel"`
	Machine  string            `json:"machine"` // architecture
	Layers   []Layer           `json:"layers"`
	Modes    []Mode            `json:"modes"`
	Rows     []Row             `json:"rows"`
	Families map[string]string `json:"families,omitempty"` // kinds of socket that have no far side here
	Valid    int               `json:"valid"`              // rows whose attack arrives without a lock
}

// Layer is one of the lock's.
type Layer struct {
	Name   string `json:"name"`
	State  string `json:"state"` // as lock.json has it
	Detail string `json:"detail,omitempty"`
	Alone  bool   `json:"alone"` // tried alone and left out
}

// Mode is one way in which all rows were tried.
type Mode struct {
	Name    string   `json:"name"`
	Locked  bool     `json:"locked"`
	Rights  string   `json:"rights"`
	Without []string `json:"without,omitempty"`
	Judged  bool     `json:"judged"` // a frame fails the audit
	// Other are frames that belong to no row, by link.
	Other map[string]int `json:"other,omitempty"`
	// Broken are layers, each with its state, that were not in place although they were not left out.
	Broken   []string `json:"broken,omitempty"`
	Loopback string   `json:"loopback,omitempty"` // what went wrong with it; empty: it works
	Arrived  int      `json:"arrived"`            // rows
	Frames   int      `json:"frames"`             // all of them
}

// Row is one way out.
type Row struct {
	Number    int             `json:"number"`
	Group     string          `json:"group"`
	Name      string          `json:"name"`
	Plain     string          `json:"plain"`
	Root      bool            `json:"needs_root"`
	Expect    []string        `json:"expect"`
	Race      bool            `json:"race,omitempty"`
	Lacks     string          `json:"lacks,omitempty"`      // why this kernel cannot do it
	Void      string          `json:"void,omitempty"`       // why it proves nothing
	StoppedBy []string        `json:"stopped_by,omitempty"` // layers that stop it alone
	Cells     map[string]Cell `json:"cells"`                // by mode
}

// Cell is what came of a row in a mode.
type Cell struct {
	Arrived    bool           `json:"arrived"`
	Frames     int            `json:"frames"` // all that belong to the row, also those of the kernel
	Repeats    int            `json:"repeats,omitempty"`
	Times      int            `json:"times,omitempty"` // of a race: how many repeats arrived
	EtherTypes map[string]int `json:"ethertypes,omitempty"`
	Refused    string         `json:"refused,omitempty"` // what the attacker was told
}

// Names of modes.
const (
	modeOpenRoot    = "unlocked, root"
	modeOpenDropped = "unlocked, dropped root"
	modeOpenUser    = "unlocked, user"
	modeAllUser     = "all layers, user"
	modeAllDropped  = "all layers, dropped root"
	modeAllRoot     = "all layers, root"
)

func modeWithout(layer string) string { return "without " + layer }
func modeOnly(layer string) string    { return "only " + layer }

// BatteryName is what Battery is called.
const BatteryName = "network"

// minimumValid is how many rows must prove something.
const minimumValid = 60

// capabilities is the layer that attackers wear: nobody has those powers.
const capabilities = "capabilities"

func (r *Result) mode(name string) *Mode {
	for i := range r.Modes {
		if r.Modes[i].Name == name {
			return &r.Modes[i]
		}
	}
	return nil
}

// take enters what a board tells into mode m.
func (r *Result) take(m *Mode, j job, out *outcome) {
	for _, id := range j.IDs {
		row := &r.Rows[id-1]
		cell := row.Cells[m.Name]
		if c := out.Seen[strconv.Itoa(id)]; c != nil {
			cell.Frames += c.Frames
			m.Frames += c.Frames
			cell.EtherTypes = c.Types
		}
		cell.Refused = out.Errs[id]
		cell.Arrived = slices.Contains(out.Arrived, id)
		if row.Race {
			cell.Repeats, cell.Times = j.Repeats, out.Repeats[id]
		}
		if cell.Arrived {
			m.Arrived++
		}
		row.Cells[m.Name] = cell
	}
	for place, c := range out.Seen {
		link, ok := strings.CutPrefix(place, "link ")
		id, err := strconv.Atoi(place)
		if !ok && err == nil && !slices.Contains(j.IDs, id) {
			link, ok = "number "+place, true
		}
		if ok {
			if m.Other == nil {
				m.Other = map[string]int{}
			}
			m.Other[link] += c.Frames
			m.Frames += c.Frames
		}
	}
	if out.Loopback != "" {
		m.Loopback = out.Loopback
	}
	if out.State != nil {
		r.takeState(m, out.State)
	}
}

// takeState notes what is not in place in one mode and was in the first.
func (r *Result) takeState(m *Mode, s *evidence.Lock) {
	for _, l := range s.Layers {
		first := slices.IndexFunc(r.Layers, func(x Layer) bool { return x.Name == l.Name && x.State != l.State })
		note := strings.TrimSuffix(l.Name+" "+l.State+": "+l.Detail, ": ")
		if first >= 0 && !slices.Contains(m.Without, l.Name) && !slices.Contains(m.Broken, note) {
			m.Broken = append(m.Broken, note)
		}
	}
}

func (r *Result) fail(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// judge draws all conclusions, once everything was taken.
func (r *Result) judge() {
	r.antiTest()
	r.judgeLayers()
	for i := range r.Modes {
		r.judgeMode(&r.Modes[i])
	}
	r.coverage()
	r.judgeAlone()
	r.OK = len(r.Failures) == 0
}

// antiTest voids the rows whose attack does not arrive without a lock.
func (r *Result) antiTest() {
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Lacks != "" {
			continue
		}
		cell := row.Cells[modeOpenRoot]
		switch {
		case !cell.Arrived:
			row.Void = "does not arrive without a lock"
		case row.Race && cell.Times*4 < cell.Repeats*3: // on a busy machine some come too late
			row.Void = fmt.Sprintf("arrives without a lock in %d of %d repeats only", cell.Times, cell.Repeats)
		default:
			r.Valid++
			continue
		}
		if cell.Refused != "" {
			row.Void += " (" + cell.Refused + ")"
		}
		r.fail("%s: proves nothing: %s", row.Name, row.Void)
	}
	if r.Valid < minimumValid {
		r.fail("%d rows prove something, there must be %d", r.Valid, minimumValid)
	}
}

// judgeLayers fails what the lock left out without being told to.
func (r *Result) judgeLayers() {
	for _, l := range r.Layers {
		switch l.State {
		case "left_out":
			r.fail("layer %s: left out in this build", l.Name)
		case "broken":
			r.fail("layer %s: broken: %s", l.Name, l.Detail)
		}
	}
}

func (r *Result) judgeMode(m *Mode) {
	if m.Loopback != "" {
		r.fail("traffic inside the board, %s: %s", m.Name, m.Loopback)
	}
	for _, b := range m.Broken {
		name, state, _ := strings.Cut(b, " ")
		r.fail("layer %s: %s, %s", name, state, m.Name)
	}
	if !m.Judged {
		return
	}
	for _, row := range r.Rows {
		if c := row.Cells[m.Name]; c.Frames > 0 {
			r.fail("%s: %s, %s", row.Name, frames(c.Frames), m.Name)
		}
	}
	for _, link := range sortedKeys(m.Other) {
		r.fail("frames of no row on %s: %s, %s", link, frames(m.Other[link]), m.Name)
	}
}

func frames(n int) string {
	if n == 1 {
		return "1 frame"
	}
	return strconv.Itoa(n) + " frames"
}

// coverage names for each row the layers that stop it alone.
func (r *Result) coverage() {
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Lacks != "" || row.Void != "" {
			continue
		}
		for _, l := range r.Layers {
			if c, ok := row.Cells[modeOnly(l.Name)]; ok && !c.Arrived {
				row.StoppedBy = append(row.StoppedBy, l.Name)
			}
		}
		if c, ok := row.Cells[modeOpenDropped]; ok && !c.Arrived {
			row.StoppedBy = append(row.StoppedBy, capabilities)
		}
	}
}

// judgeAlone fails a layer that does not do alone what it is there for.
func (r *Result) judgeAlone() {
	for _, l := range r.Layers {
		if !l.Alone || r.mode(modeOnly(l.Name)) == nil {
			continue
		}
		for _, name := range mustStop[l.Name] {
			i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Name == name })
			if i < 0 || r.Rows[i].Lacks != "" || r.Rows[i].Void != "" {
				continue
			}
			if !slices.Contains(r.Rows[i].StoppedBy, l.Name) {
				r.fail("layer %s: alone it does not stop %s", l.Name, name)
			}
		}
	}
}

// Battery is the result as the other batteries have it.
func (r *Result) Battery() *audit.Battery {
	b := &audit.Battery{Name: BatteryName}
	left := slices.Clone(r.Failures)
	claim := func(prefix string) (mine []string) {
		left = slices.DeleteFunc(left, func(s string) bool {
			if strings.HasPrefix(s, prefix) {
				mine = append(mine, strings.TrimPrefix(s, prefix))
				return true
			}
			return false
		})
		return mine
	}
	for _, row := range r.Rows {
		if row.Lacks == "" {
			b.Cases = append(b.Cases, audit.Case{Category: row.Group, Name: row.Name, Want: "arrives without a lock, and not under it", Wrong: claim(row.Name + ": ")})
		}
	}
	for _, l := range r.Layers {
		b.Cases = append(b.Cases, audit.Case{Category: "layers of the lock", Name: l.Name, Want: "in place, and of use alone", Wrong: claim("layer " + l.Name + ": ")})
	}
	b.Cases = append(b.Cases,
		audit.Case{Category: "traffic inside the board", Name: "loopback: UDP, TCP, TCP over IPv6", Want: "works under every lock", Wrong: claim("traffic inside the board, ")},
		audit.Case{Category: "the machine the audit runs on", Name: "links, addresses, routes, rules, firewall", Want: "as before", Wrong: claim("the machine: ")},
		audit.Case{Category: "everything else", Name: "frames of no row, and what the audit needs", Want: "none, and there", Wrong: left})
	return b
}
