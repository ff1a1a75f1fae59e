package netaudit

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// trial is an attack as the attacker sees it.
type trial struct {
	id     int
	crew   *crew
	closes []func()
	keep   map[string]any // what before leaves for run
}

// patience bounds each wait of an attack for the network.
const patience = 250 * time.Millisecond

func (t *trial) mark() []byte     { return wire.Mark(t.id) }
func (t *trial) far4() netip.Addr { return wire.Far4(t.id) }
func (t *trial) far6() netip.Addr { return wire.Far6(t.id) }

// own names the attack's own link.
func (t *trial) own(suffix string) string { return ownLink(t.id, suffix) }

func ownLink(id int, suffix string) string { return fmt.Sprintf("w%d%s", id, suffix) }
func ownFar(id int, suffix string) string  { return fmt.Sprintf("f%d%s", id, suffix) }

// deferred runs f when the attack is over and counted.
func (t *trial) deferred(f func()) { t.closes = append(t.closes, f) }

func (t *trial) close() {
	for i := len(t.closes) - 1; i >= 0; i-- {
		t.closes[i]()
	}
	t.closes = nil
}

// frame4 is an Ethernet frame with UDP for the far side on the shared link.
func (t *trial) frame4() []byte {
	return wire.Ether(wire.FarMAC, wire.BoardMAC, wire.TypeIPv4, t.datagram4())
}

func (t *trial) datagram4() []byte {
	return wire.UDP(netip.AddrPortFrom(wire.Board4, 4000), netip.AddrPortFrom(t.far4(), sinkPort), t.mark())
}

// private is a frame of an ethertype that nothing but this audit has.
func (t *trial) private(dst net.HardwareAddr) []byte {
	return wire.Ether(dst, wire.BoardMAC, wire.TypePrivate, t.mark())
}

// sinkPort is where the far side listens for TCP and UDP, on all its addresses.
const sinkPort = 7777

// inherited returns a file that the attacker was started with.
func (t *trial) inherited(name string) (*os.File, error) {
	f, ok := t.crew.files[name]
	if !ok {
		return nil, fmt.Errorf("no file %q was inherited", name)
	}
	return f, nil
}
