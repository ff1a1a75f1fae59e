package netaudit

import (
	"os"

	"holdfast/cmd/holdfast-bench/internal/netaudit/wire"
)

// attack is one way out.
type attack struct {
	name  string
	group string
	// plain says for a reader who is no engineer what is tried.
	plain string
	// root: an ordinary user cannot do it; without the board's lock this alone refuses him.
	root bool
	// want are the kinds of frame that show that it arrived (wire.Frame).
	want []string
	// lacks tells why this kernel cannot do it; nil or empty: it can.
	lacks func() string

	links []linkPlan // of its own, made before the lock
	bare  bool       // its links get no addresses
	conf  []string   // sysctls below net: %s is the name of its first link

	lend   func(*trial) ([]*os.File, error) // what another program opens before the lock and the attacker is started with
	before func(*trial) error               // by the attacker, before the lock
	run    func(*trial) error               // by the attacker, under the lock
	far    func(id int) []sent              // by the far side
	hand   func(*board, *trial) error       // by hands: hardware, or a service of the board that manages links
	race   func(*board, *trial, int) error  // by hands, again and again, while the attacker sends without a pause

	outside bool // the attacker is not in the board's cgroup
	alone   bool // it changes what others need: a board for itself
}

// linkPlan is a link of an attack.
type linkPlan struct {
	suffix string // of the names: w<id><suffix> on the board, f<id><suffix> on the far side
	down   bool   // left down
}

// groups in the order of the table.
const (
	groupSockets  = "programs with sockets"
	groupRaw      = "raw frames and datagrams"
	groupEarlier  = "sockets from before, from others"
	groupKernel   = "what the kernel sends by itself"
	groupReplies  = "answers to the far side"
	groupForward  = "forwarding"
	groupVirtual  = "tunnels and virtual links"
	groupKernelIn = "programs in the kernel"
	groupLinks    = "links that come, go and change"
	groupLock     = "against the lock"
)

// shared and second are the links that most attacks use.
const (
	sharedLink, sharedFar = "out0", "far0"
	secondLink, secondFar = "out1", "far1"
)

// attacks returns all of them; the number of a way out is its place, from 1.
func attacks() []*attack {
	var all []*attack
	for _, f := range []func() []*attack{
		socketAttacks, protocolAttacks, calledAttacks, rawAttacks, packetAttacks, earlierAttacks, kernelAttacks, replyAttacks, forwardAttacks,
		virtualAttacks, programAttacks, linkAttacks, lockAttacks,
	} {
		all = append(all, f()...)
	}
	if len(all) > wire.MaxID {
		panic("netaudit: internal error: more ways out than the address plan has numbers")
	}
	return all
}
