package host

import (
	"errors"
	"fmt"
)

// errDescriptors: what a device says of itself is cut off or contradicts itself.
var errDescriptors = errors.New("its descriptors are not well formed")

// usbClass says what an interface, or a device, is for: bClass, bSubClass, bProtocol as
// https://www.usb.org/defined-class-codes lists them.
type usbClass struct{ class, sub, protocol byte }

func (c usbClass) String() string { return fmt.Sprintf("%02x/%02x/%02x", c.class, c.sub, c.protocol) }

// usbDescriptors is what a device says of itself, in all its configurations.
type usbDescriptors struct {
	device     usbClass
	vendor     uint16
	product    uint16
	interfaces []usbClass // alternate settings too
}

// Descriptor types and their lengths (Universal Serial Bus 2.0, table 9-5 and section 9.6).
const (
	descriptorDevice    = 1
	descriptorInterface = 4
	deviceLength        = 18
	interfaceLength     = 9
)

// parseDescriptors reads the file "descriptors" of a device in sysfs: that of the device, then
// those of each configuration in a row. The kernel shows it for a device that is not
// authorised, too.
func parseDescriptors(p []byte) (usbDescriptors, error) {
	var d usbDescriptors
	if len(p) < deviceLength || p[0] != deviceLength || p[1] != descriptorDevice {
		return d, errDescriptors
	}
	d.device = usbClass{p[4], p[5], p[6]}
	d.vendor, d.product = uint16(p[8])|uint16(p[9])<<8, uint16(p[10])|uint16(p[11])<<8
	for p = p[deviceLength:]; len(p) > 0; p = p[p[0]:] {
		if len(p) < 2 || int(p[0]) < 2 || int(p[0]) > len(p) {
			return d, errDescriptors
		}
		if p[1] != descriptorInterface {
			continue
		}
		if p[0] < interfaceLength {
			return d, errDescriptors
		}
		d.interfaces = append(d.interfaces, usbClass{p[5], p[6], p[7]})
	}
	return d, nil
}

const classHub = 0x09

// hub tells whether the device is a hub and nothing else: one that also offers something else
// must be named like any other device.
func (d usbDescriptors) hub() bool {
	for _, i := range d.interfaces {
		if i.class != classHub {
			return false
		}
	}
	return d.device.class == classHub && len(d.interfaces) > 0
}

// network returns the first interface that is a network card, a modem for one, or a radio.
func (d usbDescriptors) network() (c usbClass, found bool) {
	for _, i := range d.interfaces {
		if i.network() {
			return i, true
		}
	}
	return c, false
}

// network goes by what the device says. A vendor's own class (ff) can be anything: such a
// device is refused where it is not named, and trusted where it is.
func (c usbClass) network() bool {
	switch c.class {
	case 0x02: // communications
		switch c.sub {
		case 0x06, 0x07, 0x08, 0x0a, 0x0c, 0x0d, 0x0e: // ECM, ATM, WHCM, MDLM, EEM, NCM, MBIM
			return true
		case 0x02: // ACM, which autopilots are; with a vendor's protocol it is RNDIS
			return c.protocol == 0xff
		}
	case 0xe0: // wireless: Bluetooth, RNDIS, ultra-wideband
		return true
	case 0xef: // miscellaneous: RNDIS
		return c.sub == 0x04
	}
	return false
}
