package host_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/firmware/netlock/host"
)

// radios is a kernel with switches: it does what the events say.
type radios struct {
	fake
	events int
	stuck  bool // events are taken and nothing happens
}

func newRadios(t *testing.T) *radios {
	r := &radios{fake: newFake(t, map[string]string{"sys/class/": "", "dev/rfkill": ""})}
	r.add(0, "phy0", "wlan", "0")
	r.add(1, "hci0", "bluetooth", "0")
	r.put("sys/class/net/wlan0/phy80211", "-> ../../ieee80211/phy0")
	r.put("sys/class/ieee80211/phy0/rfkill0/soft", "-> ../../../rfkill/rfkill0/soft")
	r.put("sys/class/bluetooth/hci0/rfkill1/soft", "-> ../../../rfkill/rfkill1/soft")
	r.put("sys/class/bluetooth/hci0:11/", "")
	return r
}

func (r *radios) add(n int, label, kind, soft string) {
	dir := fmt.Sprintf("sys/class/rfkill/rfkill%d/", n)
	r.put(dir+"name", label+"\n")
	r.put(dir+"type", kind+"\n")
	r.put(dir+"soft", soft+"\n")
}

func (r *radios) write(event []byte) error {
	r.events++
	if len(event) != 8 || event[4] != 0 {
		return unix.EINVAL
	}
	if r.stuck {
		return nil
	}
	soft := fmt.Sprintln(event[6])
	for n := range uint32(2) {
		if event[5] == 3 || event[5] == 2 && n == binary.NativeEndian.Uint32(event) {
			r.put(fmt.Sprintf("sys/class/rfkill/rfkill%d/soft", n), soft)
		}
	}
	return nil
}

func (r *radios) soft() string {
	return r.get("sys/class/rfkill/rfkill0/soft") + r.get("sys/class/rfkill/rfkill1/soft")
}

func TestRfkill(t *testing.T) {
	r := newRadios(t)
	k := host.NewRfkill(r.root, host.RfkillOptions{Write: r.write})
	verified(t, k, "radio phy0 (wlan) is on")
	applied(t, k)
	if got := r.soft(); got != "11" {
		t.Errorf("soft blocks %s", got)
	}
	r.put("sys/class/rfkill/rfkill1/soft", "0\n")
	verified(t, k, "radio hci0 (bluetooth) is on")
	applied(t, k)
	// One link is open, and shut again.
	k.SetOpen([]string{"wlan0"})
	if got := applied(t, k); len(got) != 1 || got[0] != "radio phy0: on, was off" || r.soft() != "01" {
		t.Errorf("open: %q, soft blocks %s", got, r.soft())
	}
	r.put("sys/class/rfkill/rfkill1/soft", "0\n")
	verified(t, k, "radio hci0 (bluetooth) is on")
	k.SetOpen(nil)
	verified(t, k, "radio phy0 (wlan) is on")
	applied(t, k)
	if got := r.soft(); got != "11" {
		t.Errorf("soft blocks %s", got)
	}
}

func TestRfkillRefused(t *testing.T) {
	r := newRadios(t)
	k := host.NewRfkill(r.root, host.RfkillOptions{Write: func([]byte) error { return unix.EPERM }})
	if _, err := k.Apply(); !errors.Is(err, unix.EPERM) {
		t.Errorf("apply: %v", err)
	}
	r.stuck = true
	k = host.NewRfkill(r.root, host.RfkillOptions{Write: r.write})
	if _, err := k.Apply(); err != nil || r.events != 3 {
		t.Errorf("apply: %v, %d events", err, r.events)
	}
	verified(t, k, "radio phy0 (wlan) is on")
}

// Radios without a switch are named; ports of modems and connections are no radios.
func TestRadioWithoutSwitch(t *testing.T) {
	for class, name := range map[string]string{"wwan": "wwan0", "bluetooth": "hci3", "nfc": "nfc0", "ieee80211": "phy7"} {
		f := newFake(t, map[string]string{"sys/class/" + class + "/" + name + "/": "", "sys/class/wwan/wwan0at0/": ""})
		verified(t, host.NewRfkill(f.root, host.RfkillOptions{}), "radio "+name+" has no switch")
		f.put("sys/class/"+class+"/"+name+"/device/rfkill/rfkill9/", "")
		verified(t, host.NewRfkill(f.root, host.RfkillOptions{}), "")
	}
}

// Without any switch there is no device to write to, and nothing to do.
func TestNoRadios(t *testing.T) {
	f := newFake(t, map[string]string{"sys/class/": ""})
	if got := applied(t, host.NewRfkill(f.root, host.RfkillOptions{})); len(got) != 0 {
		t.Errorf("changes: %q", got)
	}
	// The device itself, where it is not replaced.
	f.put("dev/rfkill", "")
	applied(t, host.NewRfkill(f.root, host.RfkillOptions{}))
	want := []byte{0, 0, 0, 0, 0, 3, 1, 0}
	if got := []byte(f.get("dev/rfkill")); !bytes.Equal(got, want) || !bytes.Equal(host.RfkillEvent(0, 3, true), want) {
		t.Errorf("event % x, want % x", got, want)
	}
}
