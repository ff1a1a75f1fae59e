package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// processStatus is what counts of /proc/PID/status (proc(5)).
type processStatus struct {
	// running is false for the kernel's own threads and for what has ended: neither has memory
	// of its own.
	running bool
	parent  int
	uid     int64 // effective
	powers  Powers
}

var errStatus = errors.New("process status not understood")

// parseStatus reads /proc/PID/status. The powers are those a process has, those it keeps, and
// those it could get by running a program: its bounding set, if it may gain anything that way.
func parseStatus(text string) (st processStatus, err error) {
	var held, bounding Powers
	gains, sets := true, 0
	st.uid = -1
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "VmSize":
			st.running = true
		case "PPid":
			st.parent, err = strconv.Atoi(value)
		case "Uid":
			st.uid, err = effective(value)
		case "NoNewPrivs":
			gains = value != "1"
		case "CapInh", "CapPrm", "CapEff", "CapAmb":
			held, err = addPowers(held, value)
			sets++
		case "CapBnd":
			bounding, err = addPowers(bounding, value)
			sets++
		}
		if err != nil {
			return processStatus{}, errStatus
		}
	}
	// CapAmb is missing before Linux 4.3.
	if st.running && sets < 4 {
		return processStatus{}, errStatus
	}
	st.powers = held
	if gains {
		st.powers |= bounding
	}
	return st, nil
}

func addPowers(p Powers, hex string) (Powers, error) {
	n, err := strconv.ParseUint(hex, 16, 64)
	return p | Powers(n), err
}

// effective takes the second of the four numbers of "Uid".
func effective(value string) (int64, error) {
	fields := strings.Fields(value)
	if len(fields) != 4 {
		return -1, errStatus
	}
	return strconv.ParseInt(fields[1], 10, 64)
}

// eachEntry reads what getdents64(2) has filled in: inode (8 bytes), offset (8), length of the
// record (2), type (1), name ending in a zero byte. os.ReadDir does not tell the inode.
func eachEntry(p []byte, f func(name []byte, inode uint64)) {
	const nameAt = 19
	for len(p) > nameAt {
		length := int(binary.NativeEndian.Uint16(p[16:]))
		if length <= nameAt || length > len(p) {
			return
		}
		name := p[nameAt:length]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		f(name, binary.NativeEndian.Uint64(p))
		p = p[length:]
	}
}
