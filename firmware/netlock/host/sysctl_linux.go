package host

import "slices"

// SysctlOptions says how far a Sysctl goes.
type SysctlOptions struct {
	// Namespace leaves alone what does not belong to the network namespace.
	Namespace bool
}

// Sysctl sets the kernel variables that keep the kernel itself from sending, answering and
// forwarding, for every link that is there and every one to come, and those that keep programs
// from getting powers back. Loopback keeps what it has.
type Sysctl struct{ variables }

// NewSysctl makes the layer on the tree below root.
func NewSysctl(root string, o SysctlOptions) *Sysctl {
	settings := networkSettings
	if !o.Namespace {
		settings = slices.Concat(networkSettings, machineSettings)
	}
	return &Sysctl{variables{tree: tree{root}, settings: settings}}
}

// SetOpen names the links that maintenance has open. From the next Apply on they may resolve
// addresses and answer ARP; with no names everything is closed again.
func (s *Sysctl) SetOpen(links []string) {
	if !slices.Equal(s.open, links) {
		s.open, s.list = slices.Clone(links), nil
	}
}

// Detect returns ErrAbsent where the kernel has no variables.
func (s *Sysctl) Detect() error { return s.detect() }

// Apply sets every variable that differs. What this kernel does not have is passed over.
func (s *Sysctl) Apply() (changes []Change, err error) { return s.set() }

// Verify returns the first variable that differs, and how many more do.
func (s *Sysctl) Verify() error { return s.compare() }
