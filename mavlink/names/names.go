// Package names gives the names of MAVLink messages (https://mavlink.io/en/messages/).
// The table is generated from gomavlib's "all" dialect. It stands apart from package
// mavlink so that only programs which print names carry it.
package names

import (
	"cmp"
	"slices"
)

type message struct {
	id   uint32
	name string
}

// MessageName returns the name of a message id as the MAVLink definitions spell it, such
// as HEARTBEAT for 0, and "" for an id that is not in the table. Safe for concurrent use.
func MessageName(id uint32) string {
	i, found := slices.BinarySearchFunc(table[:], id, func(m message, id uint32) int {
		return cmp.Compare(m.id, id)
	})
	if !found {
		return ""
	}
	return table[i].name
}
