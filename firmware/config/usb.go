package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// USBAnyPort is the port of a rule that holds wherever the device is plugged in.
const USBAnyPort = "*"

// MaxUSBRules bounds usb.allow. A board with more devices than this is none we know.
const MaxUSBRules = 64

// USBRule names a device that may be used: what it is, and where it is plugged in.
type USBRule struct {
	Port    string // as the kernel names it below /sys/bus/usb/devices, such as "1-1.4", or USBAnyPort
	Vendor  uint16 // idVendor
	Product uint16 // idProduct
}

// String writes the rule as it stands in holdfast.toml, such as "1-1.4 0403:6001".
func (r USBRule) String() string {
	return fmt.Sprintf("%s %04x:%04x", r.Port, r.Vendor, r.Product)
}

// usbPort is a bus, then the ports from its root on. Linux goes six hubs deep, the root
// hub counted (MAX_TOPO_LEVEL), so at most six ports stand in a row. A zero in front would
// make a second spelling of the same port.
var usbPort = regexp.MustCompile(`^[1-9][0-9]{0,2}-[1-9][0-9]{0,2}(\.[1-9][0-9]{0,2}){0,5}$`)

var usbID = regexp.MustCompile(`^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$`)

var errUSBRule = errors.New(`is no USB device, such as "1-1.4 0403:6001" (port, vendor:product in hex) or "* 1209:5740"`)

// ParseUSBRule reads what String writes. Hex digits of either case will do.
func ParseUSBRule(text string) (USBRule, error) {
	port, id, _ := strings.Cut(text, " ")
	if !usbID.MatchString(id) || port != USBAnyPort && !usbPort.MatchString(port) {
		return USBRule{}, fmt.Errorf("%s %w", quoted(text), errUSBRule)
	}
	// Four hex digits always fit.
	vendor, _ := strconv.ParseUint(id[:4], 16, 16)
	product, _ := strconv.ParseUint(id[5:], 16, 16)
	return USBRule{Port: port, Vendor: uint16(vendor), Product: uint16(product)}, nil
}

func formatDevices(rules []USBRule) string {
	var texts []string
	for _, r := range rules {
		texts = append(texts, quote(r.String()))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func (k *checker) usb(u USB) {
	const name = "usb.allow"
	if len(u.Allow) > MaxUSBRules {
		k.refuse(ErrValue, name, "%d devices are more than %d", len(u.Allow), MaxUSBRules)
	}
	seen := map[USBRule]bool{}
	for _, r := range u.Allow {
		if _, err := ParseUSBRule(r.String()); err != nil {
			k.refuse(ErrValue, name, "%v", err)
		}
		if seen[r] {
			k.refuse(ErrValue, name, "%s is there twice", quoted(r.String()))
		}
		seen[r] = true
	}
}
