package boards_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"holdfast/boards"
)

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9-]{1,31}$`)

// nodeRule is an absolute device-tree path: names as the Devicetree Specification allows them.
var nodeRule = regexp.MustCompile(`^(/[A-Za-z0-9,._+-]+(@[0-9a-f,]+)?)+$`)

func TestTableIsConsistent(t *testing.T) {
	names, compatible := map[string]bool{}, map[string]string{}
	for _, b := range boards.All() {
		if !nameRule.MatchString(b.Name) || names[b.Name] {
			t.Errorf("%q: name is not well formed or not unique", b.Name)
		}
		names[b.Name] = true
		if b.Description == "" || b.TestedOn == "" {
			t.Errorf("%s: Description and TestedOn must be said", b.Name)
		}
		if !slices.Contains([]boards.Grade{boards.GradeA, boards.GradeB, boards.GradeNone}, b.Grade) {
			t.Errorf("%s: grade %q", b.Name, b.Grade)
		}
		for _, c := range b.Compatible {
			if other, taken := compatible[c]; taken {
				t.Errorf("%s: compatible %q is also that of %s", b.Name, c, other)
			}
			if strings.ContainsAny(c, "\x00 \n") || !strings.Contains(c, ",") {
				t.Errorf("%s: compatible %q is not vendor,model", b.Name, c)
			}
			compatible[c] = b.Name
		}
		checkPaths(t, b)
		checkUARTs(t, b)
	}
}

func checkPaths(t *testing.T, b boards.Board) {
	t.Helper()
	if !strings.HasPrefix(b.DefaultDevice, "/dev/") {
		t.Errorf("%s: DefaultDevice %q is not below /dev", b.Name, b.DefaultDevice)
	}
	for _, dev := range []string{b.Storage.Device, b.Watchdog.Device} {
		if dev != "" && !strings.HasPrefix(dev, "/dev/") {
			t.Errorf("%s: device %q is not below /dev", b.Name, dev)
		}
	}
	if b.LED.Sysfs != "" && !strings.HasPrefix(b.LED.Sysfs, "/sys/class/leds/") {
		t.Errorf("%s: LED %q", b.Name, b.LED.Sysfs)
	}
	if b.Gadget.Node != "" && !nodeRule.MatchString(b.Gadget.Node) {
		t.Errorf("%s: gadget node %q", b.Name, b.Gadget.Node)
	}
	lines := slices.Concat(b.Gadget.BootConfig, b.Watchdog.BootConfig)
	for _, line := range lines {
		checkBootLine(t, b.Name, line)
	}
}

func checkUARTs(t *testing.T, b boards.Board) {
	t.Helper()
	nodes, first := map[string]bool{}, map[string]bool{}
	for _, u := range b.UARTs {
		if !nodeRule.MatchString(u.Node) || nodes[u.Node] {
			t.Errorf("%s: UART node %q is not absolute or not unique", b.Name, u.Node)
		}
		nodes[u.Node] = true
		if len(u.Names) == 0 || u.Pins == "" || u.Kind == "" {
			t.Errorf("%s: %s: Names, Pins and Kind must be said", b.Name, u.Node)
			continue
		}
		if first[u.Names[0]] {
			t.Errorf("%s: two UARTs are usually %s", b.Name, u.Names[0])
		}
		first[u.Names[0]] = true
		for _, n := range u.Names {
			if !strings.HasPrefix(n, "tty") || strings.Contains(n, "/") {
				t.Errorf("%s: %s: device name %q", b.Name, u.Node, n)
			}
		}
		for _, line := range u.BootConfig {
			checkBootLine(t, b.Name, line)
		}
	}
}

func checkBootLine(t *testing.T, board, line string) {
	t.Helper()
	if line != strings.TrimSpace(line) || !strings.Contains(line, "=") || strings.Contains(line, "\n") {
		t.Errorf("%s: boot line %q", board, line)
	}
}

func TestFirstBoards(t *testing.T) {
	for _, name := range []string{"generic-arm64", "qemu-virt", "rpi4"} {
		if b, ok := boards.ByName(name); !ok || b.Name != name {
			t.Errorf("ByName(%q) = %q, %v", name, b.Name, ok)
		}
	}
	if b, ok := boards.ByName("auto"); ok {
		t.Errorf("auto is no board, found %q", b.Name)
	}
}

func TestAllIsSortedAndFresh(t *testing.T) {
	a := boards.All()
	if !slices.IsSortedFunc(a, func(x, y boards.Board) int { return strings.Compare(x.Name, y.Name) }) {
		t.Error("not sorted by name")
	}
	want := a[0].Name
	a[0].Name = "changed"
	if got := boards.All()[0].Name; got != want {
		t.Errorf("a caller's change shows: %q", got)
	}
}

// A Pi 4 lists its model and then its processor; the kernel ends each string with a zero byte.
func TestDetect(t *testing.T) {
	tests := []struct {
		name, compatible, want string
	}{
		{"pi 4", "raspberrypi,4-model-b\x00brcm,bcm2711\x00", "rpi4"},
		{"qemu", "linux,dummy-virt\x00", "qemu-virt"},
		{"compute module is another board", "raspberrypi,4-compute-module\x00brcm,bcm2711\x00", ""},
		{"no final zero", "linux,dummy-virt", "qemu-virt"},
		{"part of a name", "raspberrypi,4-model-b-plus\x00", ""},
		{"empty", "", ""},
		{"zeros", "\x00\x00\x00", ""},
		{"garbage", "\xff\xfe\x00\x80", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{boards.CompatiblePath: {Data: []byte(tt.compatible)}}
			b, ok := boards.Detect(root)
			if b.Name != tt.want || ok != (tt.want != "") {
				t.Errorf("Detect = %q, %v, want %q", b.Name, ok, tt.want)
			}
		})
	}
	if _, ok := boards.Detect(fstest.MapFS{}); ok {
		t.Error("a machine without a device tree was detected")
	}
}

func TestPi4UARTs(t *testing.T) {
	b, _ := boards.ByName("rpi4")
	byName := map[string]string{}
	for _, u := range b.UARTs {
		byName[u.Names[0]] = u.Node
	}
	for name, node := range map[string]string{
		"ttyAMA0": "/soc/serial@7e201000",
		"ttyS0":   "/soc/serial@7e215040",
		"ttyAMA3": "/soc/serial@7e201600",
	} {
		if byName[name] != node {
			t.Errorf("%s is %q, want %q", name, byName[name], node)
		}
	}
	if want := []string{"enable_uart=1", "dtoverlay=disable-bt"}; !slices.Equal(b.UARTs[0].BootConfig, want) {
		t.Errorf("first UART boots with %q, want %q", b.UARTs[0].BootConfig, want)
	}
}
