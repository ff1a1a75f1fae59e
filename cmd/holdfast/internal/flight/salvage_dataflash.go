package flight

import "bufio"

// ArduPilot's logs are rows of messages: A3 95, a type, and as many bytes as the FMT message
// (type 0x80) of that type says (https://ardupilot.org/dev/docs/code-overview-adding-a-new-log-message.html,
// libraries/AP_Logger/LogStructure.h).
const (
	dfHead1, dfHead2 = 0xA3, 0x95
	dfHead           = 3
	dfFormat         = 0x80
	dfFormatSize     = 89
)

// dataflash takes the whole messages of an ArduPilot log.
type dataflash struct {
	length [256]int // whole messages by type; 0: not known
}

// row implements salvager.
func (d *dataflash) row(r *bufio.Reader, first bool, w *bufio.Writer) error {
	d.length[dfFormat] = dfFormatSize
	follows := first // the message before was one
	for {
		n, err := d.next(r, follows)
		if past(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if follows = n > 0; !follows {
			skip(r, 1)
			continue
		}
		if err := copyNext(r, n, w); err != nil {
			return err
		}
	}
}

// next returns the length of the whole message at the start of r; 0 where none is. Behind one
// another one begins, or the row ends; there a message is believed that follows one.
func (d *dataflash) next(r *bufio.Reader, follows bool) (int, error) {
	p, err := r.Peek(dfHead)
	if err != nil {
		return 0, err
	}
	n := d.length[p[2]]
	if p[0] != dfHead1 || p[1] != dfHead2 || n < dfHead {
		return 0, nil
	}
	p, err = r.Peek(n + 2)
	if err != nil && !past(err) {
		return 0, err
	}
	switch {
	case len(p) < n:
		return 0, nil
	case len(p) < n+2:
		if !follows {
			return 0, nil
		}
	case p[n] != dfHead1 || p[n+1] != dfHead2:
		return 0, nil
	}
	if p[2] == dfFormat {
		d.length[p[dfHead]] = int(p[dfHead+1])
	}
	return n, nil
}
