package netlock

import (
	"errors"

	"holdfast/firmware/netlock/host"
)

// errNamespace: a Lock of a namespace leaves the host alone.
var errNamespace = errors.New("belongs to the host; this lock has a network namespace alone")

// hostLayer is what package host makes.
type hostLayer interface {
	Detect() error
	Apply() ([]host.Change, error)
	Verify() error
}

// addHost adds the layers that belong to the machine. In a namespace only its own kernel
// variables are touched.
func (l *Lock) addHost() error {
	const root = "/"
	ours := !l.cfg.Namespace
	l.addHostLayer(Capabilities, true, host.NewCapabilities(root, host.CapabilityOptions{Except: host.Exceptions()}), ours)
	l.parts.sysctl = host.NewSysctl(root, host.SysctlOptions{Namespace: l.cfg.Namespace})
	y := l.addHostLayer(Sysctl, false, l.parts.sysctl, true) // those of the network are the namespace's
	y.maintained = true
	apply := y.apply
	y.apply = func() error {
		l.parts.sysctl.SetOpen(l.open)
		return apply()
	}
	var allow []host.USBRule
	for _, r := range l.cfg.USB {
		allow = append(allow, host.USBRule(r))
	}
	rfkill := host.NewRfkill(root, host.RfkillOptions{})
	y = l.addHostLayer(Rfkill, false, rfkill, ours)
	y.maintained = true
	applyRfkill := y.apply
	y.apply = func() error {
		rfkill.SetOpen(l.open)
		return applyRfkill()
	}
	l.addHostLayer(USB, false, host.NewUSB(root, host.USBOptions{Allow: allow, Links: l.cfg.Devices, Refused: l.report.usb}), ours)
	l.addHostLayer(Swap, true, host.NewSwap(root, host.SwapOptions{}), ours)
	l.addHostLayer(CoreDumps, true, host.NewCoreDumps(root), ours)
	return nil
}

func (l *Lock) addHostLayer(name string, needed bool, h hostLayer, ours bool) *layer {
	y := &layer{name: name, needed: needed, verify: h.Verify}
	y.detect = h.Detect
	if !ours {
		y.detect = gone(errNamespace)
	}
	y.apply = func() error {
		_, err := h.Apply()
		return err
	}
	l.add(y)
	return y
}
