package host_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/firmware/netlock/host"
)

// descriptors builds what a device says of itself; each interface is "class/sub/protocol".
func descriptors(vendor, product uint16, class byte, interfaces ...string) string {
	p := []byte{18, 1, 0, 2, class, 0, 0, 64, byte(vendor), byte(vendor >> 8), byte(product), byte(product >> 8), 0, 1, 1, 2, 3, 1}
	p = append(p, 9, 2, byte(9+16*len(interfaces)), 0, byte(len(interfaces)), 1, 0, 0x80, 50)
	for i, s := range interfaces {
		var c, sub, protocol byte
		if _, err := fmt.Sscanf(s, "%02x/%02x/%02x", &c, &sub, &protocol); err != nil {
			panic(err)
		}
		p = append(p, 9, 4, byte(i), 0, 1, c, sub, protocol, 0)
		p = append(p, 7, 5, 0x81, 3, 8, 0, 10) // an endpoint
	}
	return string(p)
}

const (
	deviceFolder = "sys/devices/pci0/usb1/"
	acm          = "02/02/01"
)

// bus is a machine with one controller and what is plugged in.
type bus struct {
	fake
	next    int
	refused []string
}

func newBus(t *testing.T) *bus {
	b := &bus{fake: newFake(t, map[string]string{
		"sys/class/": "", "sys/module/usbcore/parameters/authorized_default": "-1\n", "proc/self/": "",
		deviceFolder + "authorized_default": "1\n", deviceFolder + "authorized": "1\n",
	})}
	b.put("sys/bus/usb/devices/usb1", "-> ../../../devices/pci0/usb1")
	b.put("sys/bus/usb/devices/1-0:1.0", "-> ../../../devices/pci0/usb1/1-0:1.0")
	return b
}

// plug adds a device as the kernel does: in use where the controller lets it in.
func (b *bus) plug(port string, vendor, product uint16, class byte, interfaces ...string) {
	b.unplug(port)
	b.next++
	dir := deviceFolder + port + "/"
	for name, content := range map[string]string{
		"authorized": b.get(deviceFolder+"authorized_default") + "\n", "devnum": fmt.Sprintln(b.next),
		"idVendor": fmt.Sprintf("%04x\n", vendor), "idProduct": fmt.Sprintf("%04x\n", product),
		"descriptors": descriptors(vendor, product, class, interfaces...),
	} {
		b.put(dir+name, content)
	}
	b.put("sys/bus/usb/devices/"+port, "-> ../../../devices/pci0/usb1/"+port)
}

func (b *bus) unplug(port string) {
	b.remove("sys/bus/usb/devices/" + port)
	b.remove(deviceFolder + port)
}

func (b *bus) layer(o host.USBOptions) *host.USB {
	o.Refused = func(d host.USBDevice) {
		b.refused = append(b.refused, fmt.Sprintf("%v %s: %s", d, strings.Join(d.Interfaces, ","), d.Why))
	}
	return host.NewUSB(b.root, o)
}

func (b *bus) used(port string) bool { return b.get(deviceFolder+port+"/authorized") == "1" }

func (b *bus) wantUsed(want map[string]bool) {
	b.t.Helper()
	for port, used := range want {
		if b.used(port) != used {
			b.t.Errorf("%s in use: %v, want %v", port, !used, used)
		}
	}
}

func (b *bus) wantRefused(want ...string) {
	b.t.Helper()
	if !slices.Equal(b.refused, want) {
		b.t.Errorf("refused\ngot  %q\nwant %q", b.refused, want)
	}
	b.refused = nil
}

func TestUSB(t *testing.T) {
	b := newBus(t)
	b.plug("1-1", 0x05e3, 0x0610, 9, "09/00/01")
	b.plug("1-1.2", 0x0403, 0x6001, 0, "ff/ff/ff")
	b.plug("1-1.3", 0x12d1, 0x1f01, 0, "ff/02/16", "08/06/50") // an LTE stick
	u := b.layer(host.USBOptions{Allow: []host.USBRule{{Port: "1-1.2", Vendor: 0x0403, Product: 0x6001}, {Port: "*", Vendor: 0x1209, Product: 0x5740}}})
	want := []string{"sys/module/usbcore/parameters/authorized_default: 0, was -1", "sys/bus/usb/devices/usb1/authorized_default: 0, was 1",
		"USB device 1-1.3 12d1:1f01: shut out, was in use"}
	if got := applied(t, u); !slices.Equal(got, want) {
		t.Errorf("changes\ngot  %q\nwant %q", got, want)
	}
	b.wantUsed(map[string]bool{"1-1": true, "1-1.2": true, "1-1.3": false})
	b.wantRefused("1-1.3 12d1:1f01 ff/02/16,08/06/50: is not in usb.allow")

	// What is plugged in later: an autopilot wherever it is, a serial adapter in the wrong port.
	verified(t, u, "")
	b.plug("1-2", 0x1209, 0x5740, 0xef, acm, "0a/00/00")
	b.plug("1-1.4", 0x0403, 0x6001, 0, "ff/ff/ff")
	verified(t, u, "")
	b.wantUsed(map[string]bool{"1-2": true, "1-1.4": false})
	b.wantRefused("1-1.4 0403:6001 ff/ff/ff: is not in usb.allow")
	verified(t, u, "")
	b.wantRefused() // told once
	b.plug("1-1.4", 0x0403, 0x6001, 0, "ff/ff/ff")
	verified(t, u, "")
	b.wantRefused("1-1.4 0403:6001 ff/ff/ff: is not in usb.allow") // and again when plugged in again
}

func TestUSBStrike(t *testing.T) {
	b := newBus(t)
	b.plug("1-1", 0x1234, 0x0001, 0, "08/06/50")
	u := b.layer(host.USBOptions{})
	applied(t, u)
	b.put(deviceFolder+"1-1/authorized", "1\n")
	verified(t, u, "USB device 1-1 1234:0001 is in use and is not in usb.allow")
	if got := applied(t, u); !slices.Equal(got, []string{"USB device 1-1 1234:0001: shut out, was in use"}) {
		t.Errorf("changes: %q", got)
	}
	b.put(deviceFolder+"authorized_default", "1\n")
	verified(t, u, "USB devices are let in unasked (usb1/authorized_default)")
	applied(t, u)
	b.wantUsed(map[string]bool{"1-1": false})
}

// A name on the list lets no network card in, and class 09 no other function.
func TestUSBFalseColours(t *testing.T) {
	allow := []host.USBRule{{Port: "*", Vendor: 0x1209, Product: 0x5740}}
	for _, tt := range []struct {
		name       string
		class      byte
		interfaces []string
		why        string // empty: let in
	}{
		{"autopilot", 0x02, []string{acm, "0a/00/00"}, ""},
		{"autopilot and card reader", 0xef, []string{acm, "0a/00/00", "08/06/50"}, ""},
		{"NCM beside ACM", 0xef, []string{acm, "02/0d/00"}, "is a network card or a radio (interface 02/0d/00)"},
		{"ECM", 0x02, []string{"02/06/00"}, "is a network card or a radio (interface 02/06/00)"},
		{"RNDIS as ACM", 0x02, []string{"02/02/ff"}, "is a network card or a radio (interface 02/02/ff)"},
		{"RNDIS as miscellaneous", 0xef, []string{"ef/04/01"}, "is a network card or a radio (interface ef/04/01)"},
		{"Bluetooth", 0xe0, []string{"e0/01/01"}, "is a network card or a radio (interface e0/01/01)"},
		{"MBIM", 0, []string{"02/0e/00"}, "is a network card or a radio (interface 02/0e/00)"},
		{"no interface", 0x02, nil, ""},
	} {
		b := newBus(t)
		b.plug("1-1", 0x1209, 0x5740, tt.class, tt.interfaces...)
		applied(t, b.layer(host.USBOptions{Allow: allow}))
		if b.used("1-1") != (tt.why == "") || tt.why != "" && (len(b.refused) != 1 || !strings.HasSuffix(b.refused[0], ": "+tt.why)) {
			t.Errorf("%s: in use %v, refused %q", tt.name, b.used("1-1"), b.refused)
		}
	}
	for name, interfaces := range map[string][]string{"hub and keyboard": {"09/00/00", "03/01/01"}, "hub and card": {"09/00/00", "ff/00/00"}, "hub without interface": nil} {
		b := newBus(t)
		b.plug("1-1", 0x1111, 0x2222, 9, interfaces...)
		applied(t, b.layer(host.USBOptions{}))
		if b.used("1-1") {
			t.Errorf("%s: let in", name)
		}
	}
}

// A device whose descriptors cannot be understood is nobody's hub and nobody's autopilot.
func TestUSBBadDescriptors(t *testing.T) {
	b := newBus(t)
	b.plug("1-1", 0x1209, 0x5740, 0, acm)
	b.put(deviceFolder+"1-1/descriptors", descriptors(0x1209, 0x5740, 0, acm)[:30])
	b.plug("1-2", 0x1209, 0x5740, 0, acm)
	b.put(deviceFolder+"1-2/descriptors", descriptors(0x1209, 0x5741, 0, acm))
	applied(t, b.layer(host.USBOptions{Allow: []host.USBRule{{Port: "*", Vendor: 0x1209, Product: 0x5740}}}))
	b.wantUsed(map[string]bool{"1-1": false, "1-2": false})
	b.wantRefused("1-1 1209:5740 : its descriptors are not well formed", "1-2 1209:5740 02/02/01: calls itself two names")
}

// The autopilot of a link stays without being named, also when it is plugged in again; another
// device in its port does not.
func TestUSBLinks(t *testing.T) {
	b := newBus(t)
	plug := func() {
		b.plug("1-1", 0x2dae, 0x1016, 0xef, acm, "0a/00/00")
		b.put(deviceFolder+"1-1/1-1:1.0/tty/ttyACM0/dev", "166:0\n")
	}
	plug()
	b.put(deviceFolder+"1-1/1-1:1.0/tty/ttyACM0/device", "-> ../..")
	b.put("sys/class/tty/ttyACM0", "-> ../../devices/pci0/usb1/1-1/1-1:1.0/tty/ttyACM0")
	b.put("dev/ttyACM0", "")
	b.put("dev/serial/by-id/usb-autopilot", "-> ../../ttyACM0")
	u := b.layer(host.USBOptions{Links: []string{"/dev/serial/by-id/usb-autopilot", "/dev/ttyAMA0"}})
	applied(t, u)
	b.wantUsed(map[string]bool{"1-1": true})
	if got := u.Needed(); !slices.Equal(got, []host.USBRule{{Port: "1-1", Vendor: 0x2dae, Product: 0x1016}}) {
		t.Errorf("needed: %v", got)
	}
	plug() // its serial port comes after it is let in
	verified(t, u, "")
	b.wantUsed(map[string]bool{"1-1": true})
	b.plug("1-1", 0x2dae, 0x9999, 0xef, acm)
	verified(t, u, "")
	b.wantUsed(map[string]bool{"1-1": false})
	b.wantRefused("1-1 2dae:9999 02/02/01: is not in usb.allow")
}

// The disk that the machine runs from stays, also below a partition and an encrypted volume.
func TestUSBDisks(t *testing.T) {
	for name, mountinfo := range map[string]string{
		"partition": "25 1 8:1 / / rw - ext4 /dev/root rw\n", "named": "25 1 0:40 / / rw - btrfs /dev/disk/by-label/root rw\n",
		"encrypted": "25 1 253:0 / / rw - ext4 /dev/mapper/x rw\n",
	} {
		b := newBus(t)
		b.plug("1-1", 0x152d, 0x0578, 0, "08/06/62")
		b.plug("1-2", 0x0951, 0x1666, 0, "08/06/50")
		disk := deviceFolder + "1-1/1-1:1.0/host0/block/sda/sda1"
		b.put(disk+"/dev", "8:1\n")
		b.put("sys/class/block/sda1", "-> ../../devices/pci0/usb1/1-1/1-1:1.0/host0/block/sda/sda1")
		b.put("sys/dev/block/8:1", "-> ../../devices/pci0/usb1/1-1/1-1:1.0/host0/block/sda/sda1")
		b.put("sys/devices/virtual/block/dm-0/slaves/sda1", "-> ../../../../pci0/usb1/1-1/1-1:1.0/host0/block/sda/sda1")
		b.put("sys/dev/block/253:0", "-> ../../devices/virtual/block/dm-0")
		b.put("dev/sda1", "")
		b.put("dev/disk/by-label/root", "-> ../../sda1")
		b.put("proc/self/mountinfo", mountinfo)
		u := b.layer(host.USBOptions{})
		applied(t, u)
		if !b.used("1-1") || b.used("1-2") {
			t.Errorf("%s: in use %v, %v", name, b.used("1-1"), b.used("1-2"))
		}
		// What is mounted later does not stay for that.
		b.put("proc/self/mountinfo", mountinfo+"26 25 8:17 / /mnt rw - vfat /dev/sdb1 rw\n")
		verified(t, u, "")
		if len(u.Needed()) != 1 {
			t.Errorf("%s: needed %v", name, u.Needed())
		}
	}
}

// A kernel without USB, or whose USB comes later.
func TestUSBLater(t *testing.T) {
	f := newFake(t, map[string]string{"sys/class/": "", "proc/self/": ""})
	u := host.NewUSB(f.root, host.USBOptions{})
	if got := applied(t, u); len(got) != 0 {
		t.Errorf("changes: %q", got)
	}
	f.put("sys/bus/usb/devices/usb1/authorized_default", "1\n")
	verified(t, u, "")
	if got := f.get("sys/bus/usb/devices/usb1/authorized_default"); got != "0" {
		t.Errorf("a controller that came later lets devices in: %s", got)
	}
	// Taken away and back it is new again; opened by somebody it is not.
	f.remove("sys/bus/usb/devices/usb1")
	verified(t, u, "")
	f.put("sys/bus/usb/devices/usb1/authorized_default", "1\n")
	verified(t, u, "")
	f.put("sys/bus/usb/devices/usb1/authorized_default", "1\n")
	verified(t, u, "USB devices are let in unasked (usb1/authorized_default)")
	applied(t, u)
}

// A device that came with its controller, before that was closed, is shut out as any new one.
func TestUSBWithController(t *testing.T) {
	b := newBus(t)
	u := b.layer(host.USBOptions{})
	b.plug("1-1", 0x1234, 0x0001, 0, "02/06/00")
	verified(t, u, "")
	b.wantUsed(map[string]bool{"1-1": false})
	b.wantRefused("1-1 1234:0001 02/06/00: is a network card or a radio (interface 02/06/00)")
	b.put(deviceFolder+"1-1/authorized", "1\n")
	verified(t, u, "USB device 1-1 1234:0001 is in use and is a network card or a radio (interface 02/06/00)")
}

var descriptorTables = []struct {
	name, bytes string
	want        string // of fmt's %v; empty: refused
}{
	{"hub", descriptors(0x1d6b, 2, 9, "09/00/00"), "{09/00/00 09/00/00 7531 2 true }"},
	{"autopilot", descriptors(0x1209, 0x5740, 0xef, acm, "0a/00/00"), "{ef/00/00 02/02/01 0a/00/00 4617 22336 false }"},
	{"two configurations", descriptors(1, 2, 0, acm) + descriptors(1, 2, 0, "02/06/00")[18:], "{00/00/00 02/02/01 02/06/00 1 2 false 02/06/00}"},
	{"device alone", descriptors(1, 2, 0)[:18], "{00/00/00  1 2 false }"},
	{"nothing", "", ""},
	{"short", descriptors(1, 2, 0)[:17], ""},
	{"not a device", "\x12\x02" + descriptors(1, 2, 0)[2:], ""},
	{"length of zero", descriptors(1, 2, 0)[:18] + "\x00\x04", ""},
	{"length of one", descriptors(1, 2, 0)[:18] + "\x01\x04", ""},
	{"cut", descriptors(1, 2, 0, acm)[:40], ""},
	{"short interface", descriptors(1, 2, 0)[:18] + "\x08\x04\x00\x00\x01\x02\x06\x00", ""},
}

func TestParseDescriptors(t *testing.T) {
	for _, tt := range descriptorTables {
		got, err := host.ParseDescriptors([]byte(tt.bytes))
		if (err == nil) != (tt.want != "") || err == nil && fmt.Sprint(got) != tt.want {
			t.Errorf("%s: got %v, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func FuzzParseDescriptors(f *testing.F) {
	for _, tt := range descriptorTables {
		f.Add([]byte(tt.bytes))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := host.ParseDescriptors(p)
		if err == nil && d.Hub && d.Network != "" {
			t.Errorf("a hub and a network card: %v", d)
		}
	})
}

var mountTables = []struct {
	text string
	want []host.Mount
}{
	{"", nil},
	{"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n", []host.Mount{{"98:0", "/dev/root"}}},
	{"36 35 8:1 / / rw - ext4 /dev/a\\040b rw\n25 1 0:5 / /dev rw - devtmpfs udev rw", []host.Mount{{"8:1", "/dev/a b"}, {"0:5", "udev"}}},
	{"36 35 8:1 / / rw ext4 /dev/sda1 rw\n", nil},
	{"36 35 ../8:1 / / rw - ext4 /dev/sda1 rw\n", nil},
	{"36 35 8:1 / / - ext4\n", nil},
}

func TestParseMounts(t *testing.T) {
	for _, tt := range mountTables {
		if got := host.ParseMounts(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %v, want %v", tt.text, got, tt.want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	for _, tt := range mountTables {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range host.ParseMounts(text) {
			if strings.Contains(m.Number, "/") {
				t.Errorf("a path for a number: %q", m.Number)
			}
		}
	})
}
