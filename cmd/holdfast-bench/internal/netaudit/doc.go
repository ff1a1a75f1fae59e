// Package netaudit attacks the network lock. It makes a board and a far side, each a network
// namespace of its own, joins them by links, and tries every way out that it knows while a
// sniffer on the far side counts each frame, whatever its ethertype.
//
// A way out proves something only if it is one: without a lock the same attack must arrive, else its row
// is void. Then it is tried under the whole lock, as an ordinary user, as root without the
// powers that a locked board gives nobody, and as root with all of them; under the lock with one layer
// left out; and under each layer alone, which tells what covers for what. Links that
// come, go and change are raced many times.
//
// The audit starts itself again for each part (Part): the far side, the board, its guard, the attacker.
// All die with it. It refuses to act in a namespace that has the machine's links, and compares the
// machine's links, addresses, routes, rules and firewall before and after.
//
// It needs root and Linux. It says nothing about what is not in a namespace: kexec, /dev/mem, the
// firmware of network cards, Bluetooth, CAN and modems that are asked by a serial line.
package netaudit
