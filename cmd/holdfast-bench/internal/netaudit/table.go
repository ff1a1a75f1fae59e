package netaudit

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// short names the columns of layers.
var short = map[string]string{
	"nft-inet": "inet", "nft-arp": "arp", "nft-bridge": "brid", "nft-netdev": "netd", "tc": "tc", "links-down": "down",
	"cgroup-bpf": "cgrp", "sysctl": "sysc", capabilities: "caps",
}

// Print writes the whole table: what arrived of each row without a lock and under it, which layers stop
// it alone, and what each layer is worth.
func (r *Result) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	layers := r.columns()
	fmt.Fprintf(t, "\n  way out\tneeds\tno lock\tuser\troot-\troot")
	for _, l := range layers {
		fmt.Fprintf(t, "\t%s", shortName(l))
	}
	fmt.Fprintln(t)
	group := ""
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.Lacks != "" {
			continue
		}
		if row.Group != group {
			group = row.Group
			fmt.Fprintf(t, " %s\t\t\t\t\t%s\n", group, strings.Repeat("\t", len(layers)))
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s", row.Name, needs(row), cell(row, modeOpenRoot), cell(row, modeAllUser), cell(row, modeAllDropped), cell(row, modeAllRoot))
		for _, l := range layers {
			fmt.Fprintf(t, "\t%s", stops(row, l))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "  no lock: frames that arrived as root. user, root- (root without the powers that nobody has), root: frames under all layers.")
	if len(layers) > 0 {
		fmt.Fprintln(w, "  Layers: x stops it alone, . does not. caps: without those powers it cannot be done.")
	}
	return r.printRest(w)
}

// columns are the layers that were tried alone.
func (r *Result) columns() (names []string) {
	for _, l := range r.Layers {
		if r.mode(modeOnly(l.Name)) != nil {
			names = append(names, l.Name)
		}
	}
	if len(names) > 0 {
		names = append(names, capabilities)
	}
	return names
}

func shortName(layer string) string {
	if s, ok := short[layer]; ok {
		return s
	}
	return layer
}

func needs(row *Row) string {
	if row.Root {
		return "root"
	}
	return "user"
}

// cell writes how many frames came, or how many repeats.
func cell(row *Row, mode string) string {
	c, ok := row.Cells[mode]
	switch {
	case !ok:
		return ""
	case row.Race && (c.Times > 0 || c.Frames == 0):
		return fmt.Sprintf("%d/%d", c.Times, c.Repeats)
	}
	return fmt.Sprint(c.Frames)
}

func stops(row *Row, layer string) string {
	if _, ok := row.Cells[modeOnly(layer)]; !ok && layer != capabilities {
		return ""
	}
	if _, ok := row.Cells[modeOpenDropped]; !ok && layer == capabilities {
		return ""
	}
	if slices.Contains(row.StoppedBy, layer) {
		return "x"
	}
	return "."
}

func (r *Result) printRest(w io.Writer) error {
	for _, l := range r.columns() {
		if l == capabilities || r.mode(modeWithout(l)) == nil {
			continue
		}
		fmt.Fprintf(w, "  without %s: %s\n", l, r.worth(l))
	}
	fmt.Fprintf(w, "  without %s (root with every power): %s\n", capabilities, listed(r.leaks(modeAllRoot), "nothing arrives"))
	for _, l := range r.Layers {
		if l.State == "missing" && l.Name != capabilities { // those the attackers wear
			fmt.Fprintf(w, "  not tried: layer %s: %s\n", l.Name, l.Detail)
		}
	}
	for i := range r.Rows {
		if row := &r.Rows[i]; row.Lacks != "" {
			fmt.Fprintf(w, "  not tried: %s: %s\n", row.Name, row.Lacks)
		}
	}
	for _, name := range sortedKeys(r.Families) {
		fmt.Fprintf(w, "  not tried: sockets of %s: %s\n", name, r.Families[name])
	}
	_, err := fmt.Fprintf(w, "  %d ways out proved to be some on Linux %s (%s); each race %d times\n", r.Valid, r.Kernel, r.Machine, r.Repeats)
	return err
}

// leaks names the rows of which a frame came in a mode.
func (r *Result) leaks(mode string) (names []string) {
	for _, row := range r.Rows {
		if c := row.Cells[mode]; c.Arrived || c.Frames > 0 {
			names = append(names, row.Name)
		}
	}
	return names
}

// worth tells what happens without a layer, and which others do its work.
func (r *Result) worth(layer string) string {
	leaking := r.leaks(modeWithout(layer))
	mine, others := 0, map[string]int{}
	for _, row := range r.Rows {
		if !slices.Contains(row.StoppedBy, layer) {
			continue
		}
		mine++
		for _, l := range row.StoppedBy {
			if l != layer {
				others[l]++
			}
		}
	}
	s := listed(leaking, "nothing arrives")
	if mine == 0 {
		return s
	}
	var cover []string
	for _, l := range r.columns() {
		if others[l] > 0 {
			cover = append(cover, fmt.Sprintf("%s %d", l, others[l]))
		}
	}
	if cover == nil {
		cover = []string{"none"}
	}
	return fmt.Sprintf("%s; alone it stops %d, of which others stop alone: %s", s, mine, strings.Join(cover, ", "))
}

// listed writes names, or what to say where there are none.
func listed(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	verb := " arrive: "
	if len(names) == 1 {
		verb = " arrives: "
	}
	return fmt.Sprint(len(names)) + verb + strings.Join(names, "; ")
}
