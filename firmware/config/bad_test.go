package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/firmware/config"
)

// badFiles holds files that must be refused, with the exact words. A "..." in want stands
// for words of the TOML decoder.
var badFiles = []struct {
	name, text string
	kind       error
	want       string
}{
	{"empty", "", config.ErrMissing, "link: missing: one [[link]] with name and device is needed"},
	{"comments only", "# nothing\n\n", config.ErrMissing, "link: missing: one [[link]] with name and device is needed"},
	{"link without keys", "\n[[link]]\n", config.ErrMissing, "link.name on line 2: missing in this [[link]]"},
	{"link without device", "[[link]]\nname = \"fc\"\n", config.ErrMissing, "link.device on line 1: missing in this [[link]]"},
	{"second link without name", smallest + "[[link]]\ndevice = \"/dev/x\"\n", config.ErrMissing, "link.name on line 4: missing in this [[link]]"},

	{"garbage", "\x00\x01\x02", config.ErrSyntax, "line 1: ..."},
	{"a key alone", "[[link]]\nname\n", config.ErrSyntax, "line 2: ..."},
	{"no closing quote", smallest + "[vault]\npath = \"x\n", config.ErrSyntax, "line 5: ..."},
	{"no closing bracket", smallest + "[vault\n", config.ErrSyntax, "line 4: ..."},
	{"key twice", smallest + "[lock]\nmode = \"bench\"\nmode = \"bench\"\n", config.ErrSyntax, "line 6: ..."},
	{"table twice", bench + smallest + bench, config.ErrSyntax, "line 6: ..."},
	{"byte order mark", "\xef\xbb\xbf" + smallest, config.ErrSyntax, "line 1: starts with a byte order mark; save it as UTF-8 without one"},
	{"latin-1", smallest + "[vault]\npath = \"m\xfcller\"\n", config.ErrSyntax, "line 5: not UTF-8 text"},
	{"utf-16", "[\x00[\x00l\x00\xff\xfe", config.ErrSyntax, "line 1: not UTF-8 text"},
	{"too large", strings.Repeat("#", config.MaxFileSize+1), config.ErrSyntax, "larger than 1 MiB"},
	{"deep nesting", "a = " + strings.Repeat("[", 100_000), config.ErrSyntax, "line 1: ..."},
	{"deep dots", strings.Repeat("a.", 200_000) + "a = 1", config.ErrUnknownKey, "unknown key a.a.a.a.... on line 1"},

	{"unknown key", smallest + "[vault]\n\n\npaht = \"x\"\n", config.ErrUnknownKey, "unknown key vault.paht on line 7"},
	{"unknown key of a link", "[[link]]\nnmae = \"fc\"\n", config.ErrUnknownKey, "unknown key link.nmae on line 2"},
	{"unknown table", "[volt]\n", config.ErrUnknownKey, "unknown key volt on line 1"},
	{"unknown table below a link", smallest + "[link.x]\n", config.ErrUnknownKey, "unknown key link.x on line 4"},
	{"unknown key at the top", "path = \"x\"\n", config.ErrUnknownKey, "unknown key path on line 1"},
	{"unknown key in an inline table", "vault = {path = \"a\", b = 1}\n", config.ErrUnknownKey, "unknown key vault.b on line 1"},
	{"wrong case", "[Vault]\n", config.ErrUnknownKey, "unknown key Vault on line 1"},
	{"key below a key", "[vault]\npath.x = 1\n", config.ErrUnknownKey, "unknown key vault.path.x on line 2"},
	{"dots in quotes", "\"vault.path\" = \"x\"\n", config.ErrUnknownKey, "unknown key \"vault.path\" on line 1"},
	{"escape codes", "\"\\u001b[31m\" = 1\n", config.ErrUnknownKey, "unknown key \"\\x1b[31m\" on line 1"},

	{"share without a path", smallest + "[[share]]\nmode = \"read\"\n", config.ErrMissing, "share.path on line 4: missing in this [[share]]"},
	{"share mode", smallest + "[[share]]\npath = \"/run/x\"\nmode = \"both\"\n", config.ErrValue, "share.mode on line 6: \"both\" is not one of \"read\", \"write\""},
	{"share of no link", smallest + "[[share]]\npath = \"x\"\nlink = \"gps\"\n", config.ErrValue, "share.link on line 6: \"gps\" is the name of no [[link]]"},
	{"share writes, nothing is sent", smallest + "[policy]\nsend = false\n[[share]]\npath = \"x\"\nmode = \"write\"\n", config.ErrValue, "share.mode on line 8: \"write\" needs policy.send = true"},
	{"share with one bracket", smallest + "[share]\n", config.ErrValue, "share on line 4: is written [[share]]"},
	{"camera without keys", smallest + "[[camera]]\n", config.ErrMissing, "camera.name on line 4: missing in this [[camera]]"},
	{"camera without a command", smallest + "[[camera]]\nname = \"front\"\n", config.ErrMissing, "camera.command on line 4: missing in this [[camera]]"},
	{"second camera without a device", smallest + front + "[[camera]]\nname = \"b\"\nsource = \"v4l2\"\n", config.ErrMissing, "camera.device on line 7: missing in this [[camera]]"},
	{"camera twice", smallest + front + front, config.ErrValue, "camera.name on line 8: \"front\" is the name of another camera too"},
	{"camera in the vault", smallest + "[[camera]]\nname = \"a\"\nsource = \"inbox\"\npath = \"vault/in\"\n", config.ErrValue, "camera.path on line 7: \"/d/vault/in\" and vault.path \"/d/vault\" lie inside each other"},
	{"camera's name", smallest + "[[camera]]\nname = \"Front Door\"\n", config.ErrValue, "camera.name on line 5: \"Front Door\" is not 1 to 32 of a-z, 0-9, _ and -"},
	{"camera format", smallest + front + "format = \"avi\"\n", config.ErrValue, "camera.format on line 7: \"avi\" is not one of \"h264\", \"mjpeg\", \"ts\", \"mp4\", \"jpg\""},
	{"command as text", smallest + "[[camera]]\ncommand = \"a b\"\n", config.ErrValue, "camera.command on line 5: must be a list of texts, such as [\"one\", \"two\"]"},
	{"command of numbers", smallest + "[[camera]]\ncommand = [1]\n", config.ErrValue, "camera.command on line 5: must be a list of texts, such as [\"one\", \"two\"]"},
	{"sound that the policy forbids", smallest + front + "audio = true\n", config.ErrValue, "camera.audio on line 7: is true, and policy.audio does not allow it"},
	{"too many cameras", smallest + strings.Repeat("[[camera]]\n", 7), config.ErrValue, "camera on line 4: 7 of them are more than the 6 that MAVLink has components for"},
	{"unknown policy", smallest + "[policy]\nx = 1\n", config.ErrUnknownKey, "unknown key policy.x on line 5"},
	{"policy as text", smallest + "[policy]\nvideo = \"yes\"\n", config.ErrValue, "policy.video on line 5: must be true or false"},
	{"policy of logs", smallest + "[policy]\nautopilot_log = \"all\"\n", config.ErrValue, "policy.autopilot_log on line 5: \"all\" is not one of \"pull\", \"stream\", \"both\", \"off\""},
	{"yield lacks one", smallest + "[policy]\nyield = [\"video\", \"photo\"]\n", config.ErrValue, "policy.yield on line 5: must have each of \"video\", \"photo\", \"autopilot_log\" once"},
	{"veto without a word", smallest + "[policy]\nsend = false\narming_veto = true\n", config.ErrValue, "policy.arming_veto on line 6: needs policy.send = true"},
	{"battery", smallest + "[policy]\nlow_battery_percent = 101\n", config.ErrValue, "policy.low_battery_percent on line 5: 101 is outside 0 to 100"},

	{"one bracket", "[link]\nname = \"fc\"\n", config.ErrValue, "link on line 1: is written [[link]]"},
	{"two brackets", "[[vault]]\n", config.ErrValue, "vault on line 1: is written [vault]"},
	{"link in one line", "link = [{name = \"fc\", device = \"/dev/x\"}]\n", config.ErrValue, "link on line 1: is written [[link]], with one key on each line below it"},
	{"link with dots", "link.name = \"fc\"\n", config.ErrValue, "link on line 1: is written [[link]], with one key on each line below it"},
	{"table as a value", "vault = 3\n", config.ErrValue, "vault on line 1: is a table, written [vault]"},

	{"text as a number", smallest + "baud = \"921600\"\n", config.ErrValue, "link.baud on line 4: must be a whole number"},
	{"fraction", smallest + "baud = 1.5\n", config.ErrValue, "link.baud on line 4: must be a whole number"},
	{"baud zero", smallest + "baud = 0\n", config.ErrValue, "link.baud on line 4: 0 is outside 1 to 4000000"},
	{"baud too high", smallest + "baud = 4000001\n", config.ErrValue, "link.baud on line 4: 4000001 is outside 1 to 4000000"},
	{"baud out of range", smallest + "baud = 99999999999\n", config.ErrValue, "link.baud on line 4: 99999999999 is out of range"},
	{"number as a text", "[vault]\npath = 3\n", config.ErrValue, "vault.path on line 2: must be a text in quotes"},
	{"number as a duration", "[vault]\nflush_armed = 200\n", config.ErrValue, "vault.flush_armed on line 2: must be a text in quotes, such as \"200ms\""},
	{"no duration", "[vault]\nflush_armed = \"200\"\n", config.ErrValue, "vault.flush_armed on line 2: \"200\" is no duration, such as \"200ms\" or \"1.5s\""},
	{"armed too short", smallest + "[vault]\nflush_armed = \"9ms\"\n", config.ErrValue, "vault.flush_armed on line 5: 9ms is outside 10ms to 5s"},
	{"armed too long", smallest + "[vault]\nflush_armed = \"5001ms\"\n", config.ErrValue, "vault.flush_armed on line 5: 5.001s is outside 10ms to 5s"},
	{"idle too long", smallest + "[vault]\nflush_idle = \"61s\"\n", config.ErrValue, "vault.flush_idle on line 5: 1m1s is outside 10ms to 1m0s"},
	{"idle negative", smallest + "[vault]\nflush_idle = \"-1s\"\n", config.ErrValue, "vault.flush_idle on line 5: -1s is outside 10ms to 1m0s"},
	{"number as a size", "[vault]\nreserve = 512\n", config.ErrValue, "vault.reserve on line 2: must be a text in quotes, such as \"256MiB\""},
	{"size without unit", "[vault]\nreserve = \"512\"\n", config.ErrValue, "vault.reserve on line 2: \"512\" is no size, such as \"256MiB\" (units B, KiB, MiB, GiB)"},
	{"size in MB", "[vault]\nreserve = \"512MB\"\n", config.ErrValue, "vault.reserve on line 2: \"512MB\" is no size, such as \"256MiB\" (units B, KiB, MiB, GiB)"},
	{"size negative", "[vault]\nreserve = \"-1MiB\"\n", config.ErrValue, "vault.reserve on line 2: \"-1MiB\" is no size, such as \"256MiB\" (units B, KiB, MiB, GiB)"},
	{"size too large", "[vault]\nreserve = \"9999999999999GiB\"\n", config.ErrValue, "vault.reserve on line 2: \"9999999999999GiB\" is too large"},

	{"profile", smallest + "[board]\nprofile = \"rpi3000\"\n", config.ErrValue, "board.profile on line 5: \"rpi3000\" is not one of \"auto\", \"generic-arm64\", \"qemu-virt\", \"rpi4\""},
	{"record", smallest + "[vault]\nrecord = \"never\"\n", config.ErrValue, "vault.record on line 5: \"never\" is not one of \"always\", \"armed\""},
	{"when_full", smallest + "[vault]\nwhen_full = \"\"\n", config.ErrValue, "vault.when_full on line 5: \"\" is not one of \"stop\", \"oldest\""},
	{"mode", smallest + "[lock]\nmode = \"open\"\n", config.ErrValue, "lock.mode on line 5: \"open\" is not one of \"locked\", \"bench\""},

	{"name empty", "[[link]]\nname = \"\"\ndevice = \"/dev/x\"\n", config.ErrValue, "link.name on line 2: \"\" is not 1 to 32 of a-z, 0-9, _ and -"},
	{"name with a slash", "[[link]]\nname = \"../x\"\ndevice = \"/dev/x\"\n", config.ErrValue, "link.name on line 2: \"../x\" is not 1 to 32 of a-z, 0-9, _ and -"},
	{"name with a line break", "[[link]]\nname = \"fc\\n\"\ndevice = \"/dev/x\"\n", config.ErrValue, "link.name on line 2: \"fc\\n\" is not 1 to 32 of a-z, 0-9, _ and -"},
	{"name too long", "[[link]]\nname = \"" + strings.Repeat("a", 33) + "\"\ndevice = \"/dev/x\"\n", config.ErrValue, "link.name on line 2: \"" + strings.Repeat("a", 33) + "\" is not 1 to 32 of a-z, 0-9, _ and -"},
	{"name twice", smallest + "[[link]]\nname = \"fc\"\ndevice = \"/dev/y\"\n", config.ErrValue, "link.name on line 5: \"fc\" is the name of another link too"},
	{"device twice", smallest + "[[link]]\nname = \"b\"\ndevice = \"/dev/serial0\"\n", config.ErrValue, "link.device on line 6: \"/dev/serial0\" is the device of another link too"},
	{"device empty", "[[link]]\nname = \"fc\"\ndevice = \"\"\n", config.ErrValue, "link.device on line 3: must not be empty"},

	{"tcp while locked", link("tcp:127.0.0.1:5760"), config.ErrValue, "link.device on line 3: \"tcp:127.0.0.1:5760\" is for the bench; it needs lock.mode = \"bench\""},
	{"udp while locked", link("udp:127.0.0.1:14550"), config.ErrValue, "link.device on line 3: \"udp:127.0.0.1:14550\" is for the bench; it needs lock.mode = \"bench\""},
	{"file while locked", link("file:x"), config.ErrValue, "link.device on line 3: \"file:/d/x\" is for the bench; it needs lock.mode = \"bench\""},
	{"name of a host", link("tcp:localhost:5760") + bench, config.ErrValue, "link.device on line 3: \"localhost:5760\" is no IP address with a port, such as 127.0.0.1:5760"},
	{"no port", link("tcp:127.0.0.1") + bench, config.ErrValue, "link.device on line 3: \"127.0.0.1\" is no IP address with a port, such as 127.0.0.1:5760"},
	{"port zero", link("udp:127.0.0.1:0") + bench, config.ErrValue, "link.device on line 3: \"127.0.0.1:0\" is no IP address with a port, such as 127.0.0.1:5760"},
	{"port too high", link("udp:127.0.0.1:65536") + bench, config.ErrValue, "link.device on line 3: \"127.0.0.1:65536\" is no IP address with a port, such as 127.0.0.1:5760"},
	{"other machine", link("tcp:192.168.1.2:5760") + bench, config.ErrValue, "link.device on line 3: \"192.168.1.2:5760\" is not a loopback address (127.0.0.1 or ::1)"},
	{"every address", link("udp:0.0.0.0:14550") + bench, config.ErrValue, "link.device on line 3: \"0.0.0.0:14550\" is not a loopback address (127.0.0.1 or ::1)"},
	{"zone", link("udp:[::1%eth0]:14550") + bench, config.ErrValue, "link.device on line 3: \"[::1%eth0]:14550\" is not a loopback address (127.0.0.1 or ::1)"},
	{"file without a path", link("file:") + bench, config.ErrValue, "link.device on line 3: must not be empty"},
	{"other scheme", link("http://127.0.0.1/") + bench, config.ErrValue, "link.device on line 3: \"http://127.0.0.1/\" is no path, tcp:, udp: or file:"},

	{"key inside the vault", smallest + "[vault]\ndevice_key = \"vault/device.key\"\n", config.ErrValue, "vault.device_key on line 5: \"/d/vault/device.key\" lies inside vault.path \"/d/vault\""},
	{"key inside by detour", smallest + "[vault]\ndevice_key = \"x/../vault/./k\"\n", config.ErrValue, "vault.device_key on line 5: \"/d/vault/k\" lies inside vault.path \"/d/vault\""},
	{"key inside, one absolute", smallest + "[vault]\npath = \"/d\"\n", config.ErrValue, "vault.device_key: \"/d/device.key\" lies inside vault.path \"/d\""},
	{"key is the vault", smallest + "[vault]\ndevice_key = \"vault\"\n", config.ErrValue, "vault.device_key on line 5: \"/d/vault\" lies inside vault.path \"/d/vault\""},
	{"vault inside the key", smallest + "[vault]\npath = \"device.key/x\"\n", config.ErrValue, "vault.path on line 5: \"/d/device.key/x\" lies inside vault.device_key \"/d/device.key\""},
	{"vault at the root", smallest + "[vault]\npath = \"/\"\n", config.ErrValue, "vault.device_key: \"/d/device.key\" lies inside vault.path \"/\""},
	{"status inside the vault", smallest + "[status]\nfile = \"vault/status.json\"\n", config.ErrValue, "status.file on line 5: \"/d/vault/status.json\" lies inside vault.path \"/d/vault\""},
	{"status over the key", smallest + "[status]\nfile = \"device.key\"\n", config.ErrValue, "status.file on line 5: \"/d/device.key\" is the path of vault.device_key too"},
	{"recipients over the vault", smallest + "[vault]\nrecipients = \"vault/\"\n", config.ErrValue, "vault.recipients on line 5: \"/d/vault\" is the path of vault.path too"},
	{"zero byte in a path", smallest + "[vault]\npath = \"a\\u0000b\"\n", config.ErrValue, "vault.path on line 5: \"/d/a\\x00b\" holds a control character"},
	{"run inside the vault", smallest + "[lock]\nrun = \"vault/run\"\n", config.ErrValue, "lock.run on line 5: \"/d/vault/run\" lies inside vault.path \"/d/vault\""},
	{"ticket inside the vault", smallest + "[lock]\nticket = \"vault/t\"\n", config.ErrValue, "lock.ticket on line 5: \"/d/vault/t\" lies inside vault.path \"/d/vault\""},
	{"signers inside the vault", smallest + "[lock]\nsigners = \"vault/s\"\n", config.ErrValue, "lock.signers on line 5: \"/d/vault/s\" lies inside vault.path \"/d/vault\""},
	{"used numbers inside the vault", smallest + "[lock]\nused_numbers = \"vault/n\"\n", config.ErrValue, "lock.used_numbers on line 5: \"/d/vault/n\" lies inside vault.path \"/d/vault\""},
	{"used numbers over the key", smallest + "[lock]\nused_numbers = \"device.key\"\n", config.ErrValue, "lock.used_numbers on line 5: \"/d/device.key\" is the path of vault.device_key too"},
	{"ticket over the signers", smallest + "[lock]\nticket = \"t\"\nsigners = \"./t\"\n", config.ErrValue, "lock.signers on line 6: \"/d/t\" is the path of lock.ticket too"},
	{"used numbers in memory", smallest + "[lock]\nused_numbers = \"/run/holdfast/n\"\n", config.ErrValue, "lock.used_numbers on line 5: \"/run/holdfast/n\" lies inside lock.run \"/run/holdfast\", which is gone with the power"},
	{"vault in memory", smallest + "[vault]\npath = \"/run/holdfast/v\"\n", config.ErrValue, "vault.path on line 5: \"/run/holdfast/v\" lies inside lock.run \"/run/holdfast\", which is gone with the power"},
	{"key in memory", smallest + "[lock]\nrun = \".\"\n[vault]\npath = \"/v\"\n", config.ErrValue, "vault.device_key: \"/d/device.key\" lies inside lock.run \"/d\", which is gone with the power"},
	{"run is the vault", smallest + "[lock]\nrun = \"vault\"\n", config.ErrValue, "lock.run on line 5: \"/d/vault\" lies inside vault.path \"/d/vault\""},
	{"empty run", smallest + "[lock]\nrun = \"\"\n", config.ErrValue, "lock.run on line 5: must not be empty"},
	{"unknown key of the lock", smallest + "[lock]\nused-numbers = \"x\"\n", config.ErrUnknownKey, "unknown key lock.used-numbers on line 5"},
	{"number as a path", smallest + "[lock]\nticket = 1\n", config.ErrValue, "lock.ticket on line 5: must be a text in quotes"},

	{"usb as a list of tables", smallest + "[[usb]]\n", config.ErrValue, "usb on line 4: is written [usb]"},
	{"unknown key of usb", smallest + "[usb]\ndeny = []\n", config.ErrUnknownKey, "unknown key usb.deny on line 5"},
	{"usb text", usb(`"* 0403:6001"`), config.ErrValue, usbForm},
	{"usb number", usb(`[1]`), config.ErrValue, usbForm},
	{"usb list in a list", usb(`[["* 0403:6001"]]`), config.ErrValue, usbForm},
	{"usb table", usb(`{port = "*"}`), config.ErrValue, usbForm},
	{"usb empty", usb(`[""]`), config.ErrValue, usbRefused(`""`, 5)},
	{"usb without port", usb(`["0403:6001"]`), config.ErrValue, usbRefused(`"0403:6001"`, 5)},
	{"usb without product", usb(`["* 0403"]`), config.ErrValue, usbRefused(`"* 0403"`, 5)},
	{"usb short id", usb(`["* 403:6001"]`), config.ErrValue, usbRefused(`"* 403:6001"`, 5)},
	{"usb any product", usb(`["* 0403:*"]`), config.ErrValue, usbRefused(`"* 0403:*"`, 5)},
	{"usb two blanks", usb(`["*  0403:6001"]`), config.ErrValue, usbRefused(`"*  0403:6001"`, 5)},
	{"usb root hub", usb(`["usb1 1d6b:0002"]`), config.ErrValue, usbRefused(`"usb1 1d6b:0002"`, 5)},
	{"usb interface", usb(`["1-1:1.0 0403:6001"]`), config.ErrValue, usbRefused(`"1-1:1.0 0403:6001"`, 5)},
	{"usb zero in front", usb(`["1-01 0403:6001"]`), config.ErrValue, usbRefused(`"1-01 0403:6001"`, 5)},
	{"usb folder", usb(`["../1-1 0403:6001"]`), config.ErrValue, usbRefused(`"../1-1 0403:6001"`, 5)},
	{"usb too deep", usb(`["1-1.2.3.4.5.6.7 0403:6001"]`), config.ErrValue, usbRefused(`"1-1.2.3.4.5.6.7 0403:6001"`, 5)},
	{"usb second line", usb("[\"* 0403:6001\",\n# why\n\"x\"]"), config.ErrValue, usbRefused(`"x"`, 7)},
	{"usb twice", usb(`["* 0403:ABCD", "* 0403:abcd"]`), config.ErrValue, "usb.allow on line 5: \"* 0403:abcd\" is there twice"},
	{"usb too many", usb("[" + strings.Repeat("\"* 0403:6001\",", config.MaxUSBRules+1) + "]"), config.ErrValue, "usb.allow on line 5: 65 devices are more than 64"},

	{"empty path", smallest + "[vault]\npath = \"\"\n", config.ErrValue, "vault.path on line 5: must not be empty"},
}

const usbForm = "usb.allow on line 5: must be a list of texts, such as [\"1-1.4 0403:6001\", \"* 1209:5740\"]"

func usb(value string) string { return smallest + "[usb]\nallow = " + value + "\n" }

func usbRefused(shown string, line int) string {
	return fmt.Sprintf("usb.allow on line %d: %s is no USB device, such as \"1-1.4 0403:6001\" (port, vendor:product in hex) or \"* 1209:5740\"", line, shown)
}

func link(device string) string {
	return "[[link]]\nname = \"fc\"\ndevice = \"" + device + "\"\n"
}

func TestBadFiles(t *testing.T) {
	for _, tt := range badFiles {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Parse([]byte(tt.text), "/d")
			if err == nil {
				t.Fatalf("read as %+v", c)
			}
			if !errors.Is(err, tt.kind) {
				t.Errorf("kind: got %v, want %v", errors.Unwrap(err), tt.kind)
			}
			got := err.Error()
			if begin, open := strings.CutSuffix(tt.want, "..."); open && len(got) > len(begin) && len(got) < 250 {
				got = got[:len(begin)] + "..."
			}
			if got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", err, tt.want)
			}
		})
	}
}
