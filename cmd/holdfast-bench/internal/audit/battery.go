package audit

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Case is one attack or one cut, and what came of it.
type Case struct {
	Category  string   `json:"category"`
	Name      string   `json:"name"`
	Want      string   `json:"want,omitempty"`
	Wrong     []string `json:"wrong,omitempty"`     // empty: as it must be
	Unnoticed string   `json:"unnoticed,omitempty"` // why nobody can notice it
}

// Battery is the result of one.
type Battery struct {
	Name  string `json:"name"`
	Seed  uint64 `json:"seed"`
	Cases []Case `json:"cases"`
	// Notes are figures that belong to the result.
	Notes []string `json:"notes,omitempty"`
}

func (b *Battery) add(c Case) { b.Cases = append(b.Cases, c) }

// Failed returns the cases that are not as they must be.
func (b *Battery) Failed() (failed []Case) {
	for _, c := range b.Cases {
		if len(c.Wrong) > 0 {
			failed = append(failed, c)
		}
	}
	return failed
}

// Count is a line of the table.
type Count struct {
	Category  string `json:"category"`
	Cases     int    `json:"cases"`
	AsWanted  int    `json:"as_wanted"`
	Unnoticed int    `json:"unnoticed"`
}

// Counts returns the table, in the order in which categories come first.
func (b *Battery) Counts() (table []Count) {
	at := map[string]int{}
	for _, c := range b.Cases {
		i, ok := at[c.Category]
		if !ok {
			i = len(table)
			at[c.Category] = i
			table = append(table, Count{Category: c.Category})
		}
		table[i].Cases++
		if len(c.Wrong) == 0 {
			table[i].AsWanted++
		}
		if c.Unnoticed != "" {
			table[i].Unnoticed++
		}
	}
	return table
}

// Verdict is the one line.
func (b *Battery) Verdict() string {
	failed, unnoticed := len(b.Failed()), 0
	for _, c := range b.Cases {
		if c.Unnoticed != "" {
			unnoticed++
		}
	}
	if failed > 0 {
		return fmt.Sprintf("%s: FAILED, %d of %d cases are not as they must be (seed %d)", b.Name, failed, len(b.Cases), b.Seed)
	}
	s := fmt.Sprintf("%s: all %d cases are as they must be", b.Name, len(b.Cases))
	if unnoticed > 0 {
		s += fmt.Sprintf("; %d of them nobody could notice, listed below", unnoticed)
	}
	return s
}

// Print writes the table, what failed, what nobody could notice with the reasons, and the verdict.
func (b *Battery) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s\tcases\tas they must be\n", b.Name)
	for _, c := range b.Counts() {
		fmt.Fprintf(t, "  %s\t%d\t%d\n", c.Category, c.Cases, c.AsWanted)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range b.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	for _, c := range b.Failed() {
		fmt.Fprintf(w, "  FAILED  %s: %s\n", c.Category, c.Name)
		for _, why := range c.Wrong {
			fmt.Fprintf(w, "          %s\n", why)
		}
	}
	if _, err := fmt.Fprintln(w, b.Verdict()); err != nil {
		return err
	}
	return b.printUnnoticed(w)
}

func (b *Battery) printUnnoticed(w io.Writer) (err error) {
	last := ""
	for _, c := range b.Cases {
		if c.Unnoticed == "" {
			continue
		}
		if c.Unnoticed != last {
			last = c.Unnoticed
			fmt.Fprintf(w, "  cannot be noticed: %s\n", last)
		}
		_, err = fmt.Fprintf(w, "    %s\n", c.Name)
	}
	return err
}
