package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// RfkillOptions replaces what Rfkill does with the kernel.
type RfkillOptions struct {
	// Write hands an event to the kernel. nil: writes it to dev/rfkill below the root.
	Write func(event []byte) error
}

// Rfkill switches radios off, of whatever kind: Wi-Fi, Bluetooth, ultra-wideband, WiMAX, mobile,
// GPS receivers that are transmitters' parts, FM, NFC. A radio that comes later is switched off
// by the kernel itself, for the last word to all radios was off, and else by the next Apply.
//
// It cannot switch off a radio that offers the kernel no switch: it names those it finds.
type Rfkill struct {
	tree
	send func(event []byte) error
	open []string
}

// NewRfkill makes the layer on the tree below root.
func NewRfkill(root string, o RfkillOptions) *Rfkill {
	r := &Rfkill{tree: tree{root}, send: o.Write}
	if r.send == nil {
		r.send = func(event []byte) error { return r.write("dev/rfkill", string(event)) }
	}
	return r
}

// SetOpen names the links that maintenance has open. The next Apply switches their radios on;
// with no names all are switched off again.
func (r *Rfkill) SetOpen(links []string) { r.open = slices.Clone(links) }

// Detect returns ErrAbsent where nothing would tell of radios.
func (r *Rfkill) Detect() error { return r.detectSysfs() }

// From <linux/rfkill.h>: struct rfkill_event is idx (4 bytes), type, op, soft, hard.
const (
	rfkillOpChange    = 2 // one switch
	rfkillOpChangeAll = 3 // all of a type, and those to come
	rfkillTypeAll     = 0
)

func rfkillEvent(index uint32, op byte, blocked bool) []byte {
	e := binary.NativeEndian.AppendUint32(nil, index)
	soft := byte(0)
	if blocked {
		soft = 1
	}
	return append(e, rfkillTypeAll, op, soft, 0)
}

const (
	switches = "sys/class/rfkill"
	links    = "sys/class/net"
)

// Apply switches off what is on. Where there is no switch at all it does nothing: the device
// by which all are switched off comes with the first of them.
func (r *Rfkill) Apply() (changes []Change, err error) {
	if !r.exists(switches) && !r.exists("dev/rfkill") {
		return nil, nil
	}
	if len(r.open) == 0 {
		err = r.send(rfkillEvent(0, rfkillOpChangeAll, true))
	}
	more, errEach := r.each(func(s radioSwitch) error {
		return r.send(rfkillEvent(s.index, rfkillOpChange, s.off))
	})
	return more, errors.Join(err, errEach)
}

// Verify names a radio that is on, or that has no switch.
func (r *Rfkill) Verify() error {
	var wrong []string
	_, err := r.each(func(s radioSwitch) error {
		if s.off {
			wrong = append(wrong, fmt.Sprintf("radio %s (%s) is on", quoted(s.label), quoted(s.kind)))
		}
		return nil
	})
	if len(wrong) > 0 {
		return errors.New(wrong[0])
	}
	if err != nil {
		return err
	}
	return r.withoutSwitch()
}

// radioSwitch is one switch that is not where it should be.
type radioSwitch struct {
	index       uint32
	label, kind string
	off         bool // where it should be
}

// each calls f for every switch that is not where it should be.
func (r *Rfkill) each(f func(radioSwitch) error) (changes []Change, err error) {
	names, err := r.names(switches)
	if err != nil {
		return nil, err
	}
	opened := r.openSwitches()
	var errs []error
	for _, name := range names {
		index, err := strconv.ParseUint(strings.TrimPrefix(name, "rfkill"), 10, 32)
		if err != nil {
			continue // not one of the kernel's names
		}
		s := radioSwitch{index: uint32(index), off: !slices.Contains(opened, name)}
		soft, err := r.read(switches + "/" + name + "/soft")
		if gone(err) || err == nil && (soft == "1") == s.off {
			continue
		}
		s.label, _ = r.read(switches + "/" + name + "/name")
		s.kind, _ = r.read(switches + "/" + name + "/type")
		if err == nil {
			err = f(s)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("radio %s: %w", quoted(s.label), err))
			continue
		}
		changes = append(changes, Change{What: "radio " + quoted(s.label), Old: onOff(!s.off), New: onOff(s.off)})
	}
	return changes, errors.Join(errs...)
}

func onOff(blocked bool) string {
	if blocked {
		return "off"
	}
	return "on"
}

// openSwitches returns the switches of the radios below the links that are open.
func (r *Rfkill) openSwitches() (list []string) {
	for _, l := range r.open {
		for _, dir := range []string{links + "/" + l + "/phy80211", links + "/" + l + "/device"} {
			list = append(list, r.switchesIn(dir)...)
		}
	}
	return list
}

// switchesIn lists the switches that lie in the folder of a device.
func (r *Rfkill) switchesIn(dir string) (list []string) {
	for _, d := range []string{dir, dir + "/rfkill"} {
		names, _ := r.names(d)
		for _, n := range names {
			if _, err := strconv.Atoi(strings.TrimPrefix(n, "rfkill")); err == nil && strings.HasPrefix(n, "rfkill") {
				list = append(list, n)
			}
		}
	}
	return list
}

// radioClasses are where the kernel lists radios, whether they have a switch or not.
var radioClasses = []string{"sys/class/ieee80211", "sys/class/bluetooth", "sys/class/wwan", "sys/class/nfc", "sys/class/ieee802154"}

func (r *Rfkill) withoutSwitch() error {
	for _, class := range radioClasses {
		names, err := r.names(class)
		if err != nil {
			return err
		}
		for _, n := range names {
			// hci0:11 is a connection of hci0; wwan0at0 is a port of wwan0.
			if strings.Contains(n, ":") || strings.HasSuffix(class, "wwan") && strings.Trim(n, "0123456789") != "wwan" {
				continue
			}
			dir := class + "/" + n
			if len(r.switchesIn(dir)) == 0 && len(r.switchesIn(dir+"/device")) == 0 {
				return fmt.Errorf("radio %s has no switch", quoted(n))
			}
		}
	}
	return nil
}
