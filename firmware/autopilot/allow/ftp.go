package allow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bluenviron/gomavlib/v3/pkg/dialects/common"
)

// Opcodes of MAVLink FTP (https://mavlink.io/en/services/ftp.html#opcodes) that only read, and
// the one that erases.
const (
	ftpNone       = 0
	ftpTerminate  = 1
	ftpReset      = 2
	ftpList       = 3
	ftpOpenRO     = 4
	ftpRead       = 5
	ftpRemoveFile = 8
	ftpCRC32      = 14
	ftpBurst      = 15
)

// Layout of the payload of FILE_TRANSFER_PROTOCOL.
const (
	ftpOpcode = 3
	ftpSize   = 4
	ftpReqOp  = 5
	ftpBurstC = 6
	ftpPad    = 7
	ftpData   = 12
)

// logFolders are where autopilots keep their logs, by flavour: ArduPilot on a board, ArduPilot's
// simulation, PX4 on a board, PX4's simulation, and the name of the protocol for any.
var logFolders = []string{"/APM/LOGS", "APM/LOGS", "/logs", "logs", "/fs/microsd/log", "/log", "log", "@MAV_LOG"}

// LogFolders returns the folders below which FTP may read.
func LogFolders() []string { return slices.Clone(logFolders) }

func ownFTP(c *call) string {
	m := c.m.(*common.MessageFileTransferProtocol)
	p := m.Payload[:]
	size := int(p[ftpSize])
	switch {
	case m.TargetNetwork != 0:
		return "goes to another network"
	case size > len(p)-ftpData:
		return "is longer than it can be"
	case p[ftpReqOp] != 0 || p[ftpBurstC] != 0 || p[ftpPad] != 0:
		return "has fields of an answer"
	}
	path, carries, why := ftpPath(c, p[ftpOpcode], p[ftpData:ftpData+size])
	switch {
	case why != "":
		return why
	case carries && !belowLogs(path):
		return "has a path outside the log folders"
	case slices.ContainsFunc(p[ftpData+len(path):], func(b byte) bool { return b != 0 }):
		return "holds bytes behind its data"
	}
	return toAutopilot(c)
}

// ftpPath returns the path that a request carries. In a request to read, size is how much is
// wanted, and there are no data.
func ftpPath(c *call, op byte, data []byte) (path string, carries bool, why string) {
	switch op {
	case ftpNone, ftpTerminate, ftpReset, ftpRead, ftpBurst:
		return "", false, ""
	case ftpRemoveFile:
		if !c.opt.EraseLogs {
			return "", false, "removes a file, which the policy does not"
		}
	case ftpList, ftpOpenRO, ftpCRC32:
	default:
		return "", false, fmt.Sprintf("has opcode %d, which does not only read", op)
	}
	text, ok := word(data)
	if !ok {
		return "", true, "has bytes behind its path"
	}
	return text, true, ""
}

// belowLogs tells whether path is a log folder or lies in one.
func belowLogs(path string) bool {
	if slices.ContainsFunc([]byte(path), func(b byte) bool { return b < 0x20 || b > 0x7e }) {
		return false
	}
	if slices.Contains(strings.Split(path, "/"), "..") {
		return false
	}
	return slices.ContainsFunc(logFolders, func(dir string) bool {
		return path == dir || strings.HasPrefix(path, dir+"/")
	})
}
