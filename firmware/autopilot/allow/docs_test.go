package allow_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"

	"holdfast/firmware/autopilot/allow"
	"holdfast/mavlink/names"
)

var update = flag.Bool("update", false, "write the tables of docs/autopilot.md anew")

// TestDocument holds the tables of docs/autopilot.md against the list.
func TestDocument(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "autopilot.md")
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(have)
	for name, table := range map[string]string{"own": ownTable(), "commands": commandTable(), "answers": answerTable(),
		"texts": textTable(), "share": shareTable(), "refused": refusedTable()} {
		text = replace(t, text, name, table)
	}
	if text == string(have) {
		return
	}
	if !*update {
		t.Fatal("docs/autopilot.md differs from the list; run this test with -update")
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts table between the marks of name.
func replace(t *testing.T, text, name, table string) string {
	t.Helper()
	from, to := "<!-- table: "+name+" -->\n", "<!-- end: "+name+" -->"
	i, j := strings.Index(text, from), strings.Index(text, to)
	if i < 0 || j < i {
		t.Fatalf("docs/autopilot.md has no marks for the table %q", name)
	}
	return text[:i+len(from)] + table + text[j:]
}

func ownTable() string {
	var b strings.Builder
	b.WriteString("| id | message | when | armed | content | why |\n|---|---|---|---|---|---|\n")
	for _, r := range allow.Own() {
		armed := "yes"
		if r.Disarmed {
			armed = "never"
		}
		if r.ID == 76 {
			armed = "see below"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s |\n", r.ID, names.MessageName(r.ID), r.When, armed, r.Content, r.Why)
	}
	return b.String()
}

func commandTable() string {
	var b strings.Builder
	b.WriteString("| command | armed | content | why |\n|---|---|---|---|\n")
	for _, c := range allow.Commands() {
		armed := "yes"
		if c.Disarmed {
			armed = "never"
		}
		fmt.Fprintf(&b, "| %d %s | %s | %s | %s |\n", uint64(c.Command), c.Command, armed, c.Content, c.Why)
	}
	var rated []string
	for _, id := range allow.RateIDs() {
		rated = append(rated, names.MessageName(id))
	}
	fmt.Fprintf(&b, "\nMessages whose rate may be set: %s.\n", strings.Join(rated, ", "))
	fmt.Fprintf(&b, "\nFolders below which FTP may read: `%s`.\n", strings.Join(allow.LogFolders(), "`, `"))
	return b.String()
}

func answerTable() string {
	camera, computer := allow.Answers()
	var b strings.Builder
	for _, row := range []struct {
		who string
		of  []common.MAV_CMD
	}{{"a camera", camera}, {"191", computer}, {"191, with arming_veto", []common.MAV_CMD{common.MAV_CMD_ARM_AUTHORIZATION_REQUEST}}} {
		var all []string
		for _, c := range row.of {
			all = append(all, c.String())
		}
		fmt.Fprintf(&b, "* from %s: %s\n", row.who, strings.Join(all, ", "))
	}
	return b.String()
}

func textTable() string {
	var b strings.Builder
	b.WriteString("| bit | fault | text | when it is over | denies arming |\n|---|---|---|---|---|\n")
	for _, f := range allow.Faults() {
		denies := ""
		if f <= allow.FaultLink {
			denies = f.DeniedText()
		}
		appeared := strings.Replace(f.Text(false, 9), "9", "n", 1)
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", f, f, appeared, f.Text(true, 0), denies)
	}
	return b.String()
}

func shareTable() string {
	var b strings.Builder
	b.WriteString("| id | message | content | why |\n|---|---|---|---|\n")
	for _, r := range allow.Share() {
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", r.ID, names.MessageName(r.ID), r.Content, r.Why)
	}
	return b.String()
}

func refusedTable() string {
	var b strings.Builder
	b.WriteString("| refused | why |\n|---|---|\n")
	for _, r := range allow.ShareRefused() {
		fmt.Fprintf(&b, "| %s | %s |\n", r.What, r.Why)
	}
	for _, c := range allow.ShareCommands() {
		fmt.Fprintf(&b, "| %s | %s |\n", c.What, c.Why)
	}
	return b.String()
}

// TestTexts wants every text to pass, and to fit a STATUSTEXT.
func TestTexts(t *testing.T) {
	for _, f := range allow.Faults() {
		for _, s := range []string{f.Text(false, 0), f.Text(false, 1<<40), f.Text(false, -4), f.Text(true, 0), f.DeniedText()} {
			if s == "" || len(s) > 50 {
				t.Errorf("%v: %q has %d bytes", f, s, len(s))
			}
			if err := list(everything).Check(encode(t, pilot, 191, text(s)), true); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
	}
}
