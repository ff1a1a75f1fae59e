package host

import (
	"path"
	"slices"
	"strings"
)

// learn looks for the devices behind links and, the first time, behind mounted file systems.
// What it has found once it keeps: when the autopilot is plugged in again, its serial port is
// not there before the device is let in.
func (u *USB) learn() {
	for _, l := range u.o.Links {
		if port := u.portOfSerial(l); port != "" {
			u.need(port)
		}
	}
	if u.mounts {
		return
	}
	u.mounts = true
	// Before other programs have started, these are the disks that the machine runs from. Shutting
	// one out would end it.
	text, _ := u.readRaw("proc/self/mountinfo")
	for _, m := range parseMounts(string(text)) {
		if strings.HasPrefix(m.source, "/dev/") {
			if file, err := u.resolve(strings.TrimPrefix(m.source, "/")); err == nil {
				u.needDisk("sys/class/block/"+path.Base(file), maxStack)
			}
		}
		u.needDisk("sys/dev/block/"+m.number, maxStack)
	}
}

// maxStack bounds how many block devices lie on each other: partition, encryption, LVM, RAID.
const maxStack = 8

// needDisk keeps the device below a block device, through all that lies between.
func (u *USB) needDisk(dir string, depth int) {
	file, err := u.resolve(dir)
	if err != nil || depth == 0 {
		return
	}
	if port := lastPort(file); port != "" {
		u.need(port)
		return
	}
	slaves, _ := u.names(file + "/slaves")
	for _, s := range slaves {
		u.needDisk(file+"/slaves/"+s, depth-1)
	}
}

// need keeps the device that is plugged in at port now.
func (u *USB) need(port string) {
	vendor, err := u.readID(usbDevices + "/" + port + "/idVendor")
	product, errProduct := u.readID(usbDevices + "/" + port + "/idProduct")
	r := USBRule{port, vendor, product}
	if err == nil && errProduct == nil && !slices.Contains(u.needed, r) {
		u.needed = append(u.needed, r)
	}
}

// Needed returns the devices that stay without being named.
func (u *USB) Needed() []USBRule { return slices.Clone(u.needed) }

// portOfSerial returns the port behind a serial device, such as /dev/ttyACM0 or a link to it;
// nothing where it is not there or not on the USB.
func (u *USB) portOfSerial(device string) string {
	file, err := u.resolve(strings.TrimPrefix(device, "/"))
	if err != nil {
		return ""
	}
	dir, err := u.resolve("sys/class/tty/" + path.Base(file) + "/device")
	if err != nil {
		return ""
	}
	return lastPort(dir)
}

// lastPort returns the last part of a path of sysfs that names a device on the USB: in
// .../usb1/1-1/1-1.4/1-1.4:1.0/ttyUSB0 it is 1-1.4.
func lastPort(file string) string {
	for ; file != "." && file != "/" && file != ""; file = path.Dir(file) {
		if usbPortName.MatchString(path.Base(file)) {
			return path.Base(file)
		}
	}
	return ""
}

// mount is a mounted file system: the number of its device and what it was mounted from.
type mount struct{ number, source string }

// parseMounts reads /proc/PID/mountinfo (proc(5)): "36 35 98:0 /root /mount opts tags - type
// source opts". Lines of another form are passed over.
func parseMounts(text string) (list []mount) {
	for line := range strings.Lines(text) {
		head, tail, ok := strings.Cut(line, " - ")
		before, after := strings.Fields(head), strings.Fields(tail)
		if !ok || len(before) < 6 || len(after) < 2 || strings.ContainsAny(before[2], "/\x00") {
			continue
		}
		list = append(list, mount{before[2], unescape(after[1])})
	}
	return list
}
