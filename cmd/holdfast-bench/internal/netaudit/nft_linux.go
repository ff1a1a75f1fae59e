package netaudit

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableDormant switches a table off (NFT_TABLE_F_DORMANT).
const tableDormant = 1

// tableFlags sets the flags of a table that is there, which the library cannot.
func tableFlags(table *nftables.Table, flags uint32) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	body := func(family byte, resource uint16) []byte {
		return []byte{family, unix.NFNETLINK_V0, byte(resource >> 8), byte(resource)}
	}
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.String(unix.NFTA_TABLE_NAME, table.Name)
	e.Uint32(unix.NFTA_TABLE_FLAGS, flags)
	attributes, err := e.Encode()
	if err != nil {
		return err
	}
	kind := func(n int) netlink.HeaderType { return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | n) }
	if _, err := c.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: body(0, unix.NFNL_SUBSYS_NFTABLES)},
		{Header: netlink.Header{Type: kind(unix.NFT_MSG_NEWTABLE), Flags: netlink.Request | netlink.Acknowledge}, Data: append(body(byte(table.Family), 0), attributes...)},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: body(0, unix.NFNL_SUBSYS_NFTABLES)},
	}); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	if _, err := c.Receive(); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	return nil
}
