package host

// What tests of the parsers need.

type Status struct {
	Running bool
	Parent  int
	UID     int64
	Powers  Powers
}

func ParseStatus(text string) (Status, error) {
	st, err := parseStatus(text)
	return Status{st.running, st.parent, st.uid, st.powers}, err
}

type Mount struct{ Number, Source string }

func ParseMounts(text string) (list []Mount) {
	for _, m := range parseMounts(text) {
		list = append(list, Mount{m.number, m.source})
	}
	return list
}

type Descriptors struct {
	Device, Interfaces string // class/subclass/protocol, with blanks between
	Vendor, Product    uint16
	Hub                bool
	Network            string // the first interface that is one
}

func ParseDescriptors(p []byte) (Descriptors, error) {
	d, err := parseDescriptors(p)
	said := Descriptors{Device: d.device.String(), Vendor: d.vendor, Product: d.product, Hub: d.hub()}
	for i, c := range d.interfaces {
		if i > 0 {
			said.Interfaces += " "
		}
		said.Interfaces += c.String()
	}
	if c, found := d.network(); found {
		said.Network = c.String()
	}
	return said, err
}

var (
	ParseSwaps   = parseSwaps
	RfkillEvent  = rfkillEvent
	EachEntry    = eachEntry
	MaxRead      = maxRead
	ReadBelow    = func(root, name string) (string, error) { return tree{root}.read(name) }
	SettleTime   = settleTime
	FullEvery    = fullEvery
	MachineNames = func() (names []string) {
		for _, s := range machineSettings {
			names = append(names, dotted(s.key))
		}
		return names
	}
)
