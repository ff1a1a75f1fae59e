package host

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// USBRule names a device that may be used. Port is as sysfs names it ("1-1.4"), or "*".
type USBRule struct {
	Port            string
	Vendor, Product uint16
}

func (r USBRule) fits(d USBDevice) bool {
	return (r.Port == "*" || r.Port == d.Port) && r.Vendor == d.Vendor && r.Product == d.Product
}

// USBDevice is a device that was refused, or that is needed.
type USBDevice struct {
	Port            string // as sysfs names it
	Vendor, Product uint16
	Interfaces      []string // class/subclass/protocol in hex, such as 02/02/01
	Why             string   // one clause
}

// String writes port and identity as usb.allow takes them.
func (d USBDevice) String() string { return fmt.Sprintf("%s %04x:%04x", d.Port, d.Vendor, d.Product) }

// USBOptions says what may be used.
type USBOptions struct {
	Allow []USBRule
	// Links are devices of the configuration's links, such as /dev/ttyACM0. The USB device
	// behind one stays, once it was there.
	Links []string
	// Refused is told each device that was refused, once each time it is plugged in. nil: nobody.
	Refused func(USBDevice)
}

// USB lets those devices be used that were named, and refuses all else. Hubs stay, and what is
// behind a link of the configuration or behind a file system that is mounted when the layer
// begins. Even what is named is refused where it calls itself a network card or a radio.
//
// Devices go by what they call themselves: a device that lies about vendor and product in the
// right port passes. What it can then do is what its driver lets it do.
type USB struct {
	tree
	o       USBOptions
	needed  []USBRule          // learned: links, and the disks the machine runs from
	mounts  bool               // the disks were looked for
	devices map[string]usbSeen // by port
	closed  map[string]bool    // files of controllers that were found or made closed
}

// usbSeen is what was found out of a device that is plugged in.
type usbSeen struct {
	USBDevice
	number  string // counts up with each device that is plugged in
	refused bool
	told    bool
	shut    bool // it was found or made unusable
}

// NewUSB makes the layer on the tree below root.
func NewUSB(root string, o USBOptions) *USB {
	o.Allow = slices.Clone(o.Allow)
	return &USB{tree: tree{root}, o: o, devices: map[string]usbSeen{}, closed: map[string]bool{}}
}

// Detect returns ErrAbsent where nothing would tell of devices.
func (u *USB) Detect() error { return u.detectSysfs() }

const (
	usbDevices = "sys/bus/usb/devices"
	// usbDefault holds for controllers that come later, such as one made of software.
	usbDefault = "sys/module/usbcore/parameters/authorized_default"
)

var (
	usbBusName  = regexp.MustCompile(`^usb[0-9]+$`)
	usbPortName = regexp.MustCompile(`^[0-9]+-[0-9]+(\.[0-9]+)*$`)
)

// Apply closes every port and shuts out the devices that are not allowed, then lets in those
// that are. It tells Refused of new ones.
func (u *USB) Apply() (changes []Change, err error) {
	u.learn()
	defaults, err := u.eachDefault(func(file string) error { return u.write(file, "0") })
	devices, errDevices := u.eachDevice(func(d usbSeen) error { return u.authorize(d.Port, false) })
	return append(defaults, devices...), errors.Join(err, errDevices)
}

// Verify names a controller that was closed and is open to every device, or a device that was
// shut out and is in use. What is new is settled on the way, for no event tells of it on every
// kernel: a controller whose driver has just been loaded is closed, a device let in or shut
// out, and Refused told.
func (u *USB) Verify() error {
	u.learn()
	var wrong []string
	_, err := u.eachDefault(func(file string) error {
		if !u.closed[file] {
			return u.write(file, "0")
		}
		wrong = append(wrong, fmt.Sprintf("USB devices are let in unasked (%s)", strings.TrimPrefix(file, usbDevices+"/")))
		return nil
	})
	_, errDevices := u.eachDevice(func(d usbSeen) error {
		if !d.shut {
			return u.authorize(d.Port, false)
		}
		wrong = append(wrong, fmt.Sprintf("USB device %v is in use and %s", d.USBDevice, d.Why))
		return nil
	})
	if len(wrong) > 0 {
		return errors.New(wrong[0])
	}
	return errors.Join(err, errDevices)
}

// eachDefault calls f with every file that would let new devices in.
func (u *USB) eachDefault(f func(file string) error) (changes []Change, err error) {
	names, err := u.names(usbDevices)
	errs := []error{err}
	files := []string{usbDefault}
	for _, n := range names {
		if usbBusName.MatchString(n) {
			files = append(files, usbDevices+"/"+n+"/authorized_default")
		}
	}
	present := map[string]bool{}
	for i, file := range files {
		have, err := u.read(file)
		present[file] = err == nil
		switch {
		case err == nil && have == "0", i == 0 && gone(err):
			continue
		case gone(err) && !u.exists(strings.TrimSuffix(file, "/authorized_default")):
			continue // the controller was taken away
		case err == nil:
			err = f(file)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("USB: %w", err))
			present[file] = false
			continue
		}
		changes = append(changes, Change{What: file, Old: have, New: "0"})
	}
	u.closed = present
	return changes, errors.Join(errs...)
}

// eachDevice calls f with every device in use that is not allowed, lets in what is allowed, and
// tells of what is refused.
func (u *USB) eachDevice(f func(usbSeen) error) (changes []Change, err error) {
	names, err := u.names(usbDevices)
	errs := []error{err}
	present := map[string]usbSeen{}
	for _, n := range names {
		if !usbPortName.MatchString(n) {
			continue // a controller's own hub, or an interface
		}
		d, used, err := u.look(n)
		if gone(err) {
			continue
		}
		if err == nil {
			err = u.settle(&d, used, f, &changes)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("USB device %v: %w", d.USBDevice, err))
		}
		present[n] = d
	}
	u.devices = present
	return changes, errors.Join(errs...)
}

// settle makes d be what was decided of it.
func (u *USB) settle(d *usbSeen, used bool, f func(usbSeen) error, changes *[]Change) error {
	if d.refused && !d.told && u.o.Refused != nil {
		u.o.Refused(d.USBDevice)
	}
	d.told = d.refused
	switch {
	case d.refused && used:
		*changes = append(*changes, Change{What: "USB device " + d.String(), Old: "in use", New: "shut out"})
		err := f(*d)
		d.shut = err == nil
		return err
	case d.refused:
		d.shut = true
	case !d.refused && !used:
		*changes = append(*changes, Change{What: "USB device " + d.String(), Old: "shut out", New: "in use"})
		return u.authorize(d.Port, true)
	}
	return nil
}

func (u *USB) authorize(port string, in bool) error {
	value := "0"
	if in {
		value = "1"
	}
	return u.write(usbDevices+"/"+port+"/authorized", value)
}

// look finds out what is plugged in at a port, and whether it is in use. What is known already
// is not read again.
func (u *USB) look(port string) (d usbSeen, used bool, err error) {
	dir := usbDevices + "/" + port + "/"
	d.Port = port
	authorized, err := u.read(dir + "authorized")
	if err != nil {
		return d, false, err
	}
	used = authorized != "0"
	number, err := u.read(dir + "devnum")
	if err != nil {
		return d, used, err
	}
	old, known := u.devices[port]
	if known && old.number == number && !(old.refused && u.isNeeded(old.USBDevice)) {
		return old, used, nil
	}
	d.number = number
	if d.Vendor, err = u.readID(dir + "idVendor"); err != nil {
		return d, used, err
	}
	if d.Product, err = u.readID(dir + "idProduct"); err != nil {
		return d, used, err
	}
	raw, err := u.readRaw(dir + "descriptors")
	if gone(err) {
		return d, used, err
	}
	u.decide(&d, raw)
	return d, used, nil
}

func (u *USB) readID(file string) (uint16, error) {
	text, err := u.read(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 16, 16)
	return uint16(n), err
}

// decide fills in what d says of itself and whether it may be used.
func (u *USB) decide(d *usbSeen, descriptors []byte) {
	said, err := parseDescriptors(descriptors)
	for _, i := range said.interfaces {
		if s := i.String(); !slices.Contains(d.Interfaces, s) && len(d.Interfaces) < 16 {
			d.Interfaces = append(d.Interfaces, s)
		}
	}
	card, network := said.network()
	named := u.isNeeded(d.USBDevice) || slices.ContainsFunc(u.o.Allow, func(r USBRule) bool { return r.fits(d.USBDevice) })
	switch {
	case err != nil:
		d.Why = err.Error()
	case said.vendor != d.Vendor || said.product != d.Product:
		d.Why = "calls itself two names"
	case network:
		d.Why = fmt.Sprintf("is a network card or a radio (interface %v)", card)
	case said.hub() || named:
		return
	default:
		d.Why = "is not in usb.allow"
	}
	d.refused = true
}

func (u *USB) isNeeded(d USBDevice) bool {
	return slices.ContainsFunc(u.needed, func(r USBRule) bool { return r.fits(d) })
}
