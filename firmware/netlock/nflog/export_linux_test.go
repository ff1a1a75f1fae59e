package nflog

// Parse reads the data of a message as Reader does. The index of the link comes beside.
func Parse(p []byte) (Packet, uint32, error) {
	r, err := parse(p)
	return r.Packet, r.link, err
}
