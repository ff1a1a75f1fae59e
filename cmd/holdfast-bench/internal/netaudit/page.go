package netaudit

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// layerWords say what a layer is for readers who are no engineers.
var layerWords = map[string]string{
	"nft-inet":     "The system's firewall refuses all Internet traffic.",
	"nft-arp":      "The firewall refuses to ask for, or tell, hardware addresses.",
	"nft-bridge":   "The firewall refuses to pass frames from one link to another.",
	"nft-netdev":   "The firewall stands at every link and refuses every frame, whatever it is.",
	"tc":           "A program at every link throws every frame away.",
	"links-down":   "Every link is switched off, and switched off again when somebody switches it on.",
	"cgroup-bpf":   "The board's programs are refused a connection the moment they ask, and named.",
	"sysctl":       "The system itself does not answer, does not forward, and has no IPv6.",
	"capabilities": "No program has the powers that go around the other layers.",
	"rfkill":       "Radios are off.",
	"usb":          "Only USB devices that the configuration names are used.",
	"swap":         "Nothing of memory is written to a disk.",
	"core-dumps":   "A program that crashes leaves no copy of its memory.",
}

// page is what the template gets.
type page struct {
	*Result
	Groups  []pageGroup
	Columns []string
	Worth   []pageLayer
	Void    []Row
	Lacking []Row
	Root    []Row // what arrives as root with every power
	RootAll int   // rows tried so
	Sum     pageSum
}

type pageSum struct{ Open, User, Dropped int }

type pageGroup struct {
	Name string
	Rows []pageRow
}

type pageRow struct {
	Row
	Open, UserOpen, User, Dropped, Full pageCell
	Stops                               []bool
}

// pageCell is a word and its colour.
type pageCell struct{ Word, Class string }

type pageLayer struct {
	Layer
	Words, Without string
	Mine           int
}

// Page writes a page for readers who are no engineers: one file that needs nothing else.
func (r *Result) Page(w io.Writer) error {
	p := page{Result: r, Columns: r.columns()}
	for _, row := range r.Rows {
		switch {
		case row.Lacks != "":
			p.Lacking = append(p.Lacking, row)
			continue
		case row.Void != "":
			p.Void = append(p.Void, row)
		}
		if c, ok := row.Cells[modeAllRoot]; ok {
			p.RootAll++
			if c.Arrived || c.Frames > 0 {
				p.Root = append(p.Root, row)
			}
		}
		p.add(row)
	}
	p.Sum = pageSum{r.Valid, len(r.leaks(modeAllUser)), len(r.leaks(modeAllDropped))}
	for _, l := range r.Layers {
		p.Worth = append(p.Worth, p.layer(l))
	}
	return pageTemplate.Execute(w, p)
}

func (p *page) add(row Row) {
	if n := len(p.Groups); n == 0 || p.Groups[n-1].Name != row.Group {
		p.Groups = append(p.Groups, pageGroup{Name: row.Group})
	}
	g := &p.Groups[len(p.Groups)-1]
	x := pageRow{Row: row, Open: word(row, modeOpenRoot, false), UserOpen: word(row, modeOpenUser, false),
		User: word(row, modeAllUser, true), Dropped: word(row, modeAllDropped, true), Full: word(row, modeAllRoot, false)}
	for _, l := range p.Columns {
		x.Stops = append(x.Stops, stops(&row, l) == "x")
	}
	g.Rows = append(g.Rows, x)
}

// word tells what came, without numbers that differ from run to run.
func word(row Row, mode string, judged bool) pageCell {
	c, ok := row.Cells[mode]
	bad := "open"
	if judged {
		bad = "bad"
	}
	switch {
	case !ok:
		return pageCell{"not tried", "none"}
	case c.Frames == 0 && !c.Arrived:
		return pageCell{"nothing", "good"}
	case c.Arrived && row.Race:
		return pageCell{fmt.Sprintf("arrived, %d of %d times", c.Times, c.Repeats), bad}
	case !c.Arrived && (mode == modeOpenRoot || mode == modeOpenUser):
		return pageCell{"not possible", "none"} // frames are there, but they are the system's own
	}
	return pageCell{"arrived", bad}
}

func (p *page) layer(l Layer) pageLayer {
	x := pageLayer{Layer: l, Words: layerWords[l.Name], Without: "not tried"}
	if p.mode(modeWithout(l.Name)) != nil {
		x.Without = listed(p.leaks(modeWithout(l.Name)), "nothing arrives")
	}
	if l.Name == capabilities && l.State == "missing" { // the lock of a namespace leaves them to the attackers
		x.State, x.Without = "ok", listed(p.leaks(modeAllRoot), "nothing arrives")
	}
	for _, row := range p.Rows {
		if slices.Contains(row.StoppedBy, l.Name) {
			x.Mine++
		}
	}
	return x
}
