package firmware

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/crypto/keys"
	"holdfast/firmware/config"
	"holdfast/storage/vault"
)

// parse reads a configuration in a folder of its own, with recipients in each file of names.
func parse(t *testing.T, text string, names ...string) (*config.Config, map[string]string) {
	t.Helper()
	dir := t.TempDir()
	lines := map[string]string{}
	for _, name := range append(names, "recipients.txt") {
		_, line, err := keys.GenerateIdentity(true)
		if err != nil {
			t.Fatal(err)
		}
		lines[name] = strings.TrimSpace(line)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse([]byte("[[link]]\nname = \"fc\"\ndevice = \"fc\"\n"+text), dir)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, lines
}

const everythingOn = `
[[share]]
path = "ros"
mode = "write"
group = "root"
[[camera]]
name = "front"
command = ["cam", "-x"]
[policy]
autopilot_log = "both"
erase_logs = true
arming_veto = true
streams = "survey"
video_recipients = "video.txt"
photo_recipients = "video.txt"
low_battery = "poweroff"
`

// TestDataMap: each stream with those who can open it, whatever goes to the autopilot, each share and
// camera; and what a smaller configuration does not collect.
func TestDataMap(t *testing.T) {
	cfg, lines := parse(t, everythingOn+"[lock]\nmode = \"locked\"\n", "video.txt")
	flows := DataMap(cfg)
	find := func(direction, what string) DataFlow {
		i := slices.IndexFunc(flows, func(f DataFlow) bool { return f.Direction == direction && strings.HasPrefix(f.What, what) })
		if i < 0 {
			t.Fatalf("no row %s %s in %+v", direction, what, flows)
		}
		return flows[i]
	}
	for what, file := range map[string]string{"telemetry": "recipients.txt", "the autopilot's own log (both)": "recipients.txt", "who tried to send and": "recipients.txt",
		"photos": "video.txt", "video": "video.txt"} {
		f := find("kept", what)
		if !slices.Equal(f.Recipients, []string{lines[file]}) || !strings.Contains(f.Where, cfg.Vault.Path) || !strings.Contains(f.Who, file) {
			t.Errorf("%s: %+v", what, f)
		}
	}
	if f := find("out", "presence"); !strings.Contains(f.What, "survey") || !strings.Contains(f.What, "erasing") || !strings.Contains(f.What, "requests to arm") || !strings.Contains(f.What, "camera") {
		t.Errorf("to the autopilot: %q", f.What)
	}
	for direction, what := range map[string]string{"out": "live stream", "in": "what programs write", "kept": "device key"} {
		find(direction, what)
	}
	find("in", "camera front")
	find("in", "override of the arming veto")
	find("out", "request to switch the power off")
	if f := find("out", "network"); f.Where != "none" || f.Who != whoNobody {
		t.Errorf("%+v", f)
	}
	for _, f := range flows {
		if f.Direction == "" || f.What == "" || f.Where == "" || f.Form == "" || f.Who == "" {
			t.Errorf("a row that leaves something open: %+v", f)
		}
	}

	cfg, _ = parse(t, "[policy]\nsend = false\nautopilot_log = \"off\"\n[lock]\nmode = \"bench\"\n")
	flows = DataMap(cfg)
	for _, what := range []string{"to the autopilot", "photos", "video", "the autopilot's own log", "who tried"} {
		find("none", what)
	}
	if slices.ContainsFunc(flows, func(f DataFlow) bool { return f.Direction == "out" && strings.HasPrefix(f.What, "presence") }) {
		t.Error("something goes to the autopilot although nothing is sent")
	}
	if err := os.Remove(cfg.Vault.Recipients); err != nil {
		t.Fatal(err)
	}
	if f := sealedFlow(cfg, 'T', "telemetry", cfg.Vault.Recipients); len(f.Recipients) != 0 || !strings.HasPrefix(f.Who, "nobody") {
		t.Errorf("without recipients: %+v", f)
	}
}

// TestCheckParts: a row for each part; what is wrong is told with what to do.
func TestCheckParts(t *testing.T) {
	cfg, _ := parse(t, everythingOn+`
[[camera]]
name = "shell"
command = ["sh"]
[[camera]]
name = "in"
source = "inbox"
path = "inbox"
[[camera]]
name = "usb"
source = "v4l2"
device = "/dev/none"
[lock]
mode = "bench"
`, "video.txt")
	if err := os.Mkdir(cfg.Camera[2].Path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Share[0].Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Policy.ArmingOverride, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := Check(cfg)
	for _, want := range []struct {
		what, begin string
		ok          bool
		text        string
	}{
		{"keys", "streams PV", true, "only one"},
		{"policy", "records telemetry, autopilot log (both), photos, video; not sound", true, ""},
		{"camera", "front", false, "install it"},
		{"camera", "shell", true, "/sh"},
		{"camera", "in", onTmpfs(t, cfg.Camera[2].Path), ""},
		{"camera", "usb", false, "plug it in"},
		{"share", cfg.Share[0].Path, false, "something else"},
		{"arming", "veto on", true, "LIFTED"},
		{"led", "this board has none", true, ""},
	} {
		i := slices.IndexFunc(rows, func(r CheckRow) bool { return r.What == want.what && strings.HasPrefix(r.Detail, want.begin) })
		if i < 0 || rows[i].OK != want.ok || !strings.Contains(rows[i].Detail, want.text) {
			t.Errorf("%s %s: %+v", want.what, want.begin, rows)
		}
	}
}

func onTmpfs(t *testing.T, path string) bool {
	t.Helper()
	return inMemory(path) == nil
}

// TestErasePolicyNeedsAPull: a policy that can never do what it says is told.
func TestErasePolicyNeedsAPull(t *testing.T) {
	cfg, _ := parse(t, "[policy]\nerase_logs = true\nautopilot_log = \"stream\"\n")
	if r := checkPolicy(cfg); r.OK || !strings.Contains(r.Detail, "nothing would ever be erased") {
		t.Errorf("%+v", r)
	}
}

func TestYieldBelow(t *testing.T) {
	cfg, _ := parse(t, "[policy]\nyield = [\"photo\", \"autopilot_log\", \"video\"]\n[vault]\nreserve = \"100MiB\"\n")
	got := yieldBelow(cfg)
	if got['P'] != vault.MinFree+300<<20 || got['A'] != vault.MinFree+200<<20 || got['V'] != vault.MinFree+100<<20 {
		t.Errorf("%v", got)
	}
}

// TestOverride: a file lifts the veto, with one line of what it says; the button does so for a while.
func TestOverride(t *testing.T) {
	cfg, _ := parse(t, "[policy]\narming_veto = true\n")
	k := newTalk(cfg, slog.New(slog.DiscardHandler))
	if _, lifted := k.override(); lifted {
		t.Error("lifted without a word")
	}
	for text, want := range map[string]string{"": "no reason given", "rescue,\n\x00 now\xff": "rescue, \x00 now", strings.Repeat("a", 1000): strings.Repeat("a", 200)} {
		if err := os.WriteFile(cfg.Policy.ArmingOverride, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, lifted := k.override(); !lifted || got != want {
			t.Errorf("%q: %q %v", text, got, lifted)
		}
	}
	if err := os.Remove(cfg.Policy.ArmingOverride); err != nil {
		t.Fatal(err)
	}
	k.lift()
	if got, lifted := k.override(); !lifted || got != "button" {
		t.Errorf("%q %v", got, lifted)
	}
}

func TestProcFiles(t *testing.T) {
	first := []byte("cpu  10 0 0 90 0 0 0\ncpu0 10 0 0 80 10 0 0\ncpu1 0 0 0 100 0 0 0\nintr 5\n")
	second := []byte("cpu  10 0 0 90 0 0 0\ncpu0 60 0 0 120 20 0 0\ncpu1 0 0 0 200 0 0 0\n")
	_, times := cpuLoad(nil, first)
	if percent, _ := cpuLoad(times, second); !slices.Equal(percent, []uint8{50, 0}) {
		t.Errorf("%v", percent)
	}
	for _, bad := range []string{"", "cpu0", "cpu0 a b c d e f", "cpu0 1 2 3 4 5 6\ncpu0"} {
		cpuLoad(times, []byte(bad))
	}
	total, available := memInfo([]byte("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nHuge:\nX: y\n"))
	if total != 1000<<10 || available != 400<<10 {
		t.Error(total, available)
	}
}

// TestLinkShares: on a locked board the guard makes the names; a file in the way stays.
func TestLinkShares(t *testing.T) {
	cfg, _ := parse(t, "[[share]]\npath = \"a\"\n[[share]]\npath = \"b\"\n[lock]\nrun = \"run\"\n")
	if err := os.WriteFile(cfg.Share[1].Path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := linkShares(cfg); err == nil || !strings.Contains(err.Error(), cfg.Share[1].Path) {
			t.Errorf("%v", err)
		}
	}
	if to, err := os.Readlink(cfg.Share[0].Path); err != nil || to != filepath.Join(cfg.Lock.Run, "recorder/share-1") {
		t.Errorf("%q %v", to, err)
	}
	if p, _ := os.ReadFile(cfg.Share[1].Path); string(p) != "mine" {
		t.Error("a file was replaced")
	}
}
