package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/firmware/config"
)

const smallest = "[[link]]\nname = \"fc\"\ndevice = \"/dev/serial0\"\n"

const front = "[[camera]]\nname = \"front\"\ncommand = [\"c\"]\n"

const bench = "[lock]\nmode = \"bench\"\n"

func TestDefaultsAreTheContract(t *testing.T) {
	got, err := config.Parse([]byte(smallest), "/etc/holdfast")
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Board: config.Board{Profile: "auto"},
		Link:  []config.Link{{Name: "fc", Device: "/dev/serial0", Baud: 921600}},
		Vault: config.Vault{
			Path: "/etc/holdfast/vault", Recipients: "/etc/holdfast/recipients.txt", DeviceKey: "/etc/holdfast/device.key",
			FlushArmed: 200 * time.Millisecond, FlushIdle: 900 * time.Millisecond, Reserve: 256 << 20,
			Record: "always", WhenFull: "stop",
		},
		Lock: config.Lock{Mode: "locked", Run: "/run/holdfast", Ticket: "/etc/holdfast/maintenance.ticket",
			Signers: "/etc/holdfast/signers.txt", UsedNumbers: "/etc/holdfast/used-numbers"},
		Policy: config.Policy{Send: true, Streams: "keep", Telemetry: true, AutopilotLog: "pull", Photo: true, Video: true,
			Yield: []string{"video", "photo", "autopilot_log"}, ArmingOverride: "/etc/holdfast/arming.override",
			LowBattery: "keep", LowBatteryPercent: 10},
		Status: config.Status{File: "/etc/holdfast/status.json", LED: "auto", Button: "auto"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

const everything = `# every key, none at its default
[board]
profile = "rpi4"
[[link]]
name = "fc"
device = "/dev/ttyAMA3"
baud = 1_500_000
[[link]]
name = "sitl-2_b"
device = "tcp:127.0.0.1:5760"
[[link]]
name = "gcs"
device = "udp:[::1]:14550"
[[link]]
name = "old"
device = "file:logs/raw.bin"
[vault]
path = "../big/vault"
recipients = "keys/r.txt"
device_key = "/var/lib/holdfast/device.key"
flush_armed = "10ms"
flush_idle = "1m"
reserve = "1GiB"
record = "armed"
when_full = "oldest"
[lock]
mode = "bench"
run = "run"
ticket = "/media/card/t"
signers = "keys/s.txt"
used_numbers = "/var/lib/holdfast/used"
[usb]
allow = [
    "1-1.4 0403:6001",   # the autopilot
    "* 1209:574A",
    '10-127.1.2.3.4.255 FFFF:0000',
]
[status]
file = "/run/holdfast/status.json"
led = "led1"
button = "GPIO17"
[[share]]
path = "fc-for-ros"
mode = "write"
link = "gcs"
group = "ros"
[[share]]
path = "/run/holdfast/fc"
[[camera]]
name = "front"
command = ["rpicam-vid", "-t", "0"]
format = "ts"
audio = true
start = "armed"
[[camera]]
name = "in"
source = "inbox"
path = "/run/holdfast/inbox"
format = "jpg"
[[camera]]
name = "usb"
source = "v4l2"
device = "/dev/video0"
format = "mjpeg"
width = 1280
height = 720
fps = 30
start = "command"
[policy]
streams = "survey"
telemetry = false
autopilot_log = "both"
erase_logs = true
photo = false
video = false
audio = true
autopilot_log_recipients = "crash.txt"
photo_recipients = "media.txt"
video_recipients = "media.txt"
media_rate = "20MiB"
log_rate = "40KiB"
yield = ["photo", "video", "autopilot_log"]
arming_veto = true
arming_override = "/run/override"
low_battery = "poweroff"
low_battery_percent = 15
operator = "Unit 7"
case = "2026-113"
`

func TestEveryKey(t *testing.T) {
	got, err := config.Parse([]byte(everything), "/etc/holdfast")
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Board: config.Board{Profile: "rpi4"},
		Link: []config.Link{
			{Name: "fc", Device: "/dev/ttyAMA3", Baud: 1500000},
			{Name: "sitl-2_b", Device: "tcp:127.0.0.1:5760", Baud: 921600},
			{Name: "gcs", Device: "udp:[::1]:14550", Baud: 921600},
			{Name: "old", Device: "file:/etc/holdfast/logs/raw.bin", Baud: 921600},
		},
		Vault: config.Vault{
			Path: "/etc/big/vault", Recipients: "/etc/holdfast/keys/r.txt", DeviceKey: "/var/lib/holdfast/device.key",
			FlushArmed: 10 * time.Millisecond, FlushIdle: time.Minute, Reserve: 1 << 30,
			Record: "armed", WhenFull: "oldest",
		},
		Lock: config.Lock{Mode: "bench", Run: "/etc/holdfast/run", Ticket: "/media/card/t",
			Signers: "/etc/holdfast/keys/s.txt", UsedNumbers: "/var/lib/holdfast/used"},
		USB: config.USB{Allow: []config.USBRule{{Port: "1-1.4", Vendor: 0x0403, Product: 0x6001},
			{Port: "*", Vendor: 0x1209, Product: 0x574a}, {Port: "10-127.1.2.3.4.255", Vendor: 0xffff}}},
		Policy: config.Policy{Send: true, Streams: "survey", AutopilotLog: "both", EraseLogs: true, Audio: true,
			AutopilotLogRecipients: "/etc/holdfast/crash.txt", PhotoRecipients: "/etc/holdfast/media.txt", VideoRecipients: "/etc/holdfast/media.txt",
			MediaRate: 20 << 20, LogRate: 40 << 10, Yield: []string{"photo", "video", "autopilot_log"}, ArmingVeto: true, ArmingOverride: "/run/override",
			LowBattery: "poweroff", LowBatteryPercent: 15, Operator: "Unit 7", Case: "2026-113"},
		Camera: []config.Camera{
			{Name: "front", Source: "command", Command: []string{"rpicam-vid", "-t", "0"}, Format: "ts", Start: "armed", Audio: true},
			{Name: "in", Source: "inbox", Path: "/run/holdfast/inbox", Format: "jpg", Start: "always"},
			{Name: "usb", Source: "v4l2", Device: "/dev/video0", Format: "mjpeg", Width: 1280, Height: 720, FPS: 30, Start: "command"},
		},
		Share: []config.Share{{Path: "/etc/holdfast/fc-for-ros", Mode: "write", Link: "gcs", Group: "ros"},
			{Path: "/run/holdfast/fc", Mode: "read"}},
		Status: config.Status{File: "/run/holdfast/status.json", LED: "led1", Button: "GPIO17"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if groups := got.StreamRecipients(); len(groups) != 2 || groups["/etc/holdfast/crash.txt"] != "A" || groups["/etc/holdfast/media.txt"] != "PV" {
		t.Errorf("recipients of streams: %v", groups)
	}
	if !got.Bench() {
		t.Error("Bench() is false")
	}
}

// The same file in the other ways TOML has to write it.
func TestOtherSpellings(t *testing.T) {
	for _, text := range []string{
		"lock.mode = \"bench\"\nvault.reserve = '1KiB'\n" + smallest,
		"lock = {mode = \"bench\"}\nvault = {reserve = \"1024B\"}\n" + smallest,
		strings.ReplaceAll(smallest+bench+"[vault]\nreserve = \"1KiB\"\n", "\n", "\r\n"),
		"[\"lock\"]\n\"mode\" = \"\"\"bench\"\"\"\n[vault]\nreserve = \"\\u0031KiB\"\n" + smallest,
	} {
		c, err := config.Parse([]byte(text), "/d")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if !c.Bench() || c.Vault.Reserve != 1024 || len(c.Link) != 1 {
			t.Errorf("%q: got %+v", text, c)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0B": 0, "0GiB": 0, "1B": 1, "3KiB": 3 << 10, "512MiB": 512 << 20, "8GiB": 8 << 30,
	} {
		c, err := config.Parse([]byte(smallest+"[vault]\nreserve = \""+text+"\"\n"), "/d")
		if err != nil || c.Vault.Reserve != want {
			t.Errorf("%s: got %v, %v, want %d", text, c, err, want)
		}
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	for _, text := range []string{smallest, everything, smallest + "[vault]\npath = 'a \"b\" \\c'\nreserve = \"0B\"\n",
		smallest + "[usb]\nallow = []\n", "usb = {allow = ['* 0403:6001']}\n" + smallest} {
		first, err := config.Parse([]byte(text), "/etc/holdfast")
		if err != nil {
			t.Fatal(err)
		}
		written, err := config.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := config.Parse(written, "/elsewhere")
		if err != nil {
			t.Fatalf("%v in\n%s", err, written)
		}
		if !reflect.DeepEqual(first, second) {
			t.Errorf("got  %+v\nwant %+v\n%s", second, first, written)
		}
	}
}

func TestMarshalIsReadable(t *testing.T) {
	c := config.Default()
	c.Link = []config.Link{config.DefaultLink()}
	c.Share = []config.Share{{Path: "fc-shared", Mode: "read"}}
	camera := config.DefaultCamera()
	camera.Name, camera.Command = "front", []string{"camera"}
	c.Camera = []config.Camera{camera}
	written, err := config.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"[board]", `profile = "auto"`, "[[link]]", `name = "fc"`, `device = "/dev/serial0"`, "baud = 921600",
		"[vault]", `path = "vault"`, `flush_armed = "200ms"`, `reserve = "256MiB"`, "[lock]", `mode = "locked"`,
		`run = "/run/holdfast"`, `ticket = "maintenance.ticket"`, `signers = "signers.txt"`, `used_numbers = "used-numbers"`, "[usb]", "allow = []", `file = "status.json"`,
	} {
		if !strings.Contains(string(written), "\n"+line) {
			t.Errorf("%q does not begin a line of\n%s", line, written)
		}
	}
	for _, name := range config.Keys() {
		_, last, _ := strings.Cut(name, ".")
		if !strings.Contains(string(written), "\n"+last+" = ") {
			t.Errorf("%s is not written", name)
		}
	}
	if _, err := config.Marshal(config.Default()); !errors.Is(err, config.ErrMissing) {
		t.Errorf("a configuration without a link was written: %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.toml", smallest)
	c, err := config.Load(good)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "vault"); c.Vault.Path != want {
		t.Errorf("vault path %q, want %q", c.Vault.Path, want)
	}
	if _, err := config.Load(filepath.Join(dir, "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := config.Load(dir); !errors.Is(err, config.ErrNotRegular) {
		t.Errorf("folder: %v", err)
	}
	big := write("big.toml", smallest+strings.Repeat("#", config.MaxFileSize))
	if _, err := config.Load(big); !errors.Is(err, config.ErrTooLarge) {
		t.Errorf("big file: %v", err)
	}
	bad := write("bad.toml", smallest+"[vault]\npaht = \"x\"\n")
	_, err = config.Load(bad)
	var ce *config.Error
	if !errors.As(err, &ce) || ce.Key != "vault.paht" || ce.Line != 5 || err.Error() != bad+": unknown key vault.paht on line 5" {
		t.Errorf("unknown key: %v", err)
	}
}

// A program's configuration has no lines; the key is named all the same.
func TestValidate(t *testing.T) {
	base := func() *config.Config {
		c := config.Default()
		c.Link = []config.Link{config.DefaultLink()}
		return c
	}
	if err := base().Validate(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		change func(*config.Config)
		want   string
	}{
		{func(c *config.Config) { c.Link = nil }, "link: missing: one [[link]] with name and device is needed"},
		{func(c *config.Config) { c.Link[0].Name = "" }, "link.name: missing in this [[link]]"},
		{func(c *config.Config) { c.Link[0].Baud = -1 }, "link.baud: -1 is outside 1 to 4000000"},
		{func(c *config.Config) { c.Vault.Reserve = -1 }, "vault.reserve: -1 bytes is below zero"},
		{func(c *config.Config) { c.Vault.FlushIdle = 0 }, "vault.flush_idle: 0s is outside 10ms to 1m0s"},
		{func(c *config.Config) { c.Vault.Path = "a\x00b" }, `vault.path: "a\x00b" holds a control character`},
		{func(c *config.Config) { c.Vault.Path = "a\xffb" }, `vault.path: "a\xffb" holds a control character`},
		{func(c *config.Config) { c.Lock.Ticket = "" }, "lock.ticket: must not be empty"},
		{func(c *config.Config) { c.USB.Allow = []config.USBRule{{}} }, `usb.allow: " 0000:0000" is no USB device, such as "1-1.4 0403:6001" (port, vendor:product in hex) or "* 1209:5740"`},
		{func(c *config.Config) { c.Vault.Path = "." }, `vault.device_key: "device.key" lies inside vault.path "."`},
	}
	for _, tt := range tests {
		c := base()
		tt.change(c)
		if err := c.Validate(); err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	f.Add([]byte(everything))
	for _, tt := range badFiles {
		if len(tt.text) < 10_000 {
			f.Add([]byte(tt.text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := config.Parse(data, "/d")
		if err != nil {
			var ce *config.Error
			if !errors.As(err, &ce) || ce.Kind == nil {
				t.Fatalf("not an *Error: %v", err)
			}
			if strings.ContainsAny(err.Error(), "\n\r\x00\x1b") {
				t.Fatalf("more than one printable line: %q", err)
			}
			return
		}
		written, err := config.Marshal(first)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		second, err := config.Parse(written, "/d")
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%v\ngot  %+v\nwant %+v\n%s", err, second, first, written)
		}
	})
}
