package netaudit

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// found is a result of sixty ways out under a lock that holds, on a kernel that has all but one.
func found() *Result {
	r := &Result{Kernel: "6.0", Machine: "amd64", Repeats: 40, Families: map[string]string{"CAN": "the kernel has none"}}
	for _, l := range []string{"nft-inet", "nft-arp"} {
		r.Layers = append(r.Layers, Layer{Name: l, State: "ok", Alone: true})
	}
	r.Layers = append(r.Layers, Layer{Name: "swap", State: "missing", Detail: "belongs to the host"})
	r.Modes = []Mode{{Name: modeOpenRoot, Rights: asRootFull}, {Name: modeOpenDropped, Rights: asRootDropped}, {Name: modeOpenUser, Rights: asUser},
		{Name: modeAllUser, Locked: true, Judged: true}, {Name: modeAllDropped, Locked: true, Judged: true}, {Name: modeAllRoot, Locked: true},
		{Name: modeWithout("nft-inet"), Locked: true}, {Name: modeWithout("nft-arp"), Locked: true}, {Name: modeOnly("nft-inet"), Locked: true}, {Name: modeOnly("nft-arp"), Locked: true}}
	for i, a := range attacks()[:minimumValid+1] {
		row := Row{Number: i + 1, Group: a.group, Name: a.name, Plain: a.plain, Root: a.root, Expect: a.want, Cells: map[string]Cell{}}
		for _, m := range r.Modes {
			c := Cell{Refused: "operation not permitted"}
			arp := slices.Contains(a.want, "arp-request")
			if !m.Locked || m.Name == modeOnly("nft-arp") && !arp || m.Name == modeOnly("nft-inet") && arp {
				c = Cell{Arrived: true, Frames: 1, EtherTypes: map[string]int{"0x0800": 1}}
			}
			row.Cells[m.Name] = c
		}
		r.Rows = append(r.Rows, row)
	}
	r.Rows[minimumValid].Lacks, r.Rows[minimumValid].Cells = "the kernel has none of it", map[string]Cell{}
	return r
}

// TestJudge spoils one thing each and wants it named.
func TestJudge(t *testing.T) {
	leak := func(mode string) func(*Result) {
		return func(r *Result) { r.Rows[5].Cells[mode] = Cell{Frames: 2} }
	}
	for _, c := range []struct {
		name  string
		spoil func(*Result)
		want  string // a failure that begins so; empty: none
	}{
		{"all as it must be", func(*Result) {}, ""},
		{"a frame as a user", leak(modeAllUser), "UDP, IPv4: 2 frames, all layers, user"},
		{"a frame as root without powers", leak(modeAllDropped), "UDP, IPv4: 2 frames, all layers, dropped root"},
		{"a frame as root with all powers is told, not judged", leak(modeAllRoot), ""},
		{"a frame without a layer is told, not judged", leak(modeWithout("nft-arp")), ""},
		{"a frame of nobody", func(r *Result) { r.mode(modeAllUser).Other = map[string]int{"far0": 1} }, "frames of no row on far0: 1 frame, all layers, user"},
		{"an attack that does not arrive without a lock", func(r *Result) { r.Rows[0].Cells[modeOpenRoot] = Cell{Refused: "no route"} }, "TCP, IPv4: proves nothing: does not arrive without a lock (no route)"},
		{"too few that prove something", func(r *Result) { r.Rows[0].Cells[modeOpenRoot] = Cell{} }, "59 rows prove something, there must be 60"},
		{"a race that arrives too seldom", func(r *Result) {
			r.Rows[0].Race, r.Rows[0].Cells[modeOpenRoot] = true, Cell{Arrived: true, Frames: 9, Times: 9, Repeats: 40}
		}, "TCP, IPv4: proves nothing: arrives without a lock in 9 of 40 repeats only"},
		{"loopback broken", func(r *Result) { r.mode(modeAllRoot).Loopback = "no answer" }, "traffic inside the board, all layers, root: no answer"},
		{"a layer left out by the build", func(r *Result) { r.Layers[0].State = "left_out" }, "layer nft-inet: left out in this build"},
		{"a layer that breaks", func(r *Result) { r.Layers[1].State = "broken" }, "layer nft-arp: broken"},
		{"a layer that breaks where others are left out", func(r *Result) {
			r.mode(modeOnly("nft-arp")).Broken = []string{"nft-arp broken"}
		}, "layer nft-arp: broken, only nft-arp"},
		{"a layer that does nothing alone", func(r *Result) {
			for i := range r.Rows {
				r.Rows[i].Cells[modeOnly("nft-arp")] = Cell{Arrived: true, Frames: 1}
			}
		}, "layer nft-arp: alone it does not stop ARP by sending to a new address"},
	} {
		r := found()
		c.spoil(r)
		r.judge()
		switch {
		case c.want == "" && !r.OK:
			t.Errorf("%s: %q", c.name, r.Failures)
		case c.want != "" && (r.OK || !slices.ContainsFunc(r.Failures, func(s string) bool { return strings.HasPrefix(s, c.want) })):
			t.Errorf("%s: %q, want %q", c.name, r.Failures, c.want)
		}
		wrong := 0
		for _, k := range r.Battery().Cases {
			wrong += len(k.Wrong)
		}
		if wrong != len(r.Failures) {
			t.Errorf("%s: the battery has %d failures, the result %d", c.name, wrong, len(r.Failures))
		}
	}
}

// TestTake: rows, frames of nobody and frames that belong to a row that was not tried.
func TestTake(t *testing.T) {
	r := found()
	m := r.mode(modeAllUser)
	r.take(m, job{IDs: []int{1, 2}, Repeats: 5}, &outcome{
		Seen:    map[string]*count{"1": {Frames: 3, Types: map[string]int{"0x0800": 3}}, "7": {Frames: 1}, "link far0": {Frames: 2}},
		Arrived: []int{1}, Errs: map[int]string{2: "no answer"}, Loopback: "broken",
	})
	if c := r.Rows[0].Cells[m.Name]; !c.Arrived || c.Frames != 3 {
		t.Errorf("first row: %+v", c)
	}
	if c := r.Rows[1].Cells[m.Name]; c.Arrived || c.Refused != "no answer" {
		t.Errorf("second row: %+v", c)
	}
	if m.Frames != 6 || m.Other["far0"] != 2 || m.Other["number 7"] != 1 || m.Loopback != "broken" {
		t.Errorf("mode: %+v", m)
	}
}

// TestPages: the table names layers that cover for another, and the page is whole, the same each
// time and loads nothing.
func TestPages(t *testing.T) {
	r := found()
	r.judge()
	var table, first, second bytes.Buffer
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"UDP, IPv4", "without nft-inet: nothing arrives; alone it stops 58, of which others stop alone: none", "60 ways out proved to be some on Linux 6.0 (amd64); each race 40 times", "not tried: sockets of CAN: the kernel has none"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, table.String())
		}
	}
	if err := r.Page(&first); err != nil {
		t.Fatal(err)
	}
	r2 := found()
	r2.judge()
	if err := r2.Page(&second); err != nil {
		t.Fatal(err)
	}
	if first.String() != second.String() {
		t.Error("two pages of the same result differ")
	}
	for _, want := range []string{"Nothing arrived.", "<b>60</b>", "open a connection, as a browser does", "</html>"} {
		if !strings.Contains(first.String(), want) {
			t.Errorf("%q is not in the page", want)
		}
	}
	for _, never := range []string{"http://", "https://", "<script", "src=", "@import"} {
		if strings.Contains(first.String(), never) {
			t.Errorf("%q is in the page", never)
		}
	}
	r.fail("UDP, IPv4: 1 frame")
	r.OK = false
	first.Reset()
	if err := r.Page(&first); err != nil || !strings.Contains(first.String(), "The test failed.") || strings.Contains(first.String(), "Nothing arrived.") {
		t.Errorf("the page of a failed audit: %v", err)
	}
}

// TestAttacks: every way out has a name of its own, words, a group and what shows its arrival; what layers must stop is there.
func TestAttacks(t *testing.T) {
	names := map[string]bool{}
	for _, a := range attacks() {
		if a.name == "" || a.plain == "" || a.group == "" || len(a.want) == 0 || names[a.name] {
			t.Errorf("%+v", a)
		}
		if a.run == nil && a.far == nil && a.hand == nil && a.race == nil {
			t.Errorf("%s does nothing", a.name)
		}
		names[a.name] = true
	}
	for layer, rows := range mustStop {
		for _, name := range rows {
			if !names[name] {
				t.Errorf("%s must stop %q, which is none", layer, name)
			}
		}
	}
}

func TestDifference(t *testing.T) {
	got := difference([]string{"link 1 lo", "route a"}, []string{"link 1 lo", "route b"})
	if !slices.Equal(got, []string{"gone: route a", "new: route b"}) {
		t.Errorf("%q", got)
	}
}
