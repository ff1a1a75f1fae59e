package host

// CoreDumps keeps the memory of programs that crash off every medium. Limits on a program's
// dumps are inherited, and not looked at: a dump handed to a program heeds none of them.
type CoreDumps struct{ variables }

// NewCoreDumps makes the layer on the tree below root.
func NewCoreDumps(root string) *CoreDumps {
	return &CoreDumps{variables{tree: tree{root}, settings: coreSettings}}
}

// Detect returns ErrAbsent where the kernel has no variables.
func (c *CoreDumps) Detect() error { return c.detect() }

// Apply sets what differs. A kernel that makes no dumps has nothing to set.
func (c *CoreDumps) Apply() (changes []Change, err error) { return c.set() }

// Verify names what differs.
func (c *CoreDumps) Verify() error { return c.compare() }
