package netaudit

import (
	"errors"

	"golang.org/x/sys/unix"
)

// families are kinds of socket that reach other networks than Ethernet: there is no far side for
// them here. That they are there is told, so that nobody takes them for tried.
func families() map[string]string {
	found := map[string]string{}
	for _, f := range []struct {
		name         string
		family, kind int
		proto        int
	}{
		{"Bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1},
		{"CAN", unix.AF_CAN, unix.SOCK_RAW, 1},
		{"virtual machine to host (vsock)", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"TIPC", unix.AF_TIPC, unix.SOCK_RDM, 0},
		{"RDS", unix.AF_RDS, unix.SOCK_SEQPACKET, 0},
		{"RxRPC", unix.AF_RXRPC, unix.SOCK_DGRAM, unix.AF_INET},
		{"SMC", unix.AF_SMC, unix.SOCK_STREAM, 0},
		{"IEEE 802.15.4", unix.AF_IEEE802154, unix.SOCK_RAW, 0},
		{"Phonet (modems)", unix.AF_PHONET, unix.SOCK_DGRAM, 0},
		{"Qualcomm IPC router (modems)", unix.AF_QIPCRTR, unix.SOCK_DGRAM, 0},
		{"NFC", unix.AF_NFC, unix.SOCK_RAW, 0},
		{"MCTP", unix.AF_MCTP, unix.SOCK_DGRAM, 0},
		{"PPP", unix.AF_PPPOX, unix.SOCK_STREAM, 0},
		{"X.25", unix.AF_X25, unix.SOCK_SEQPACKET, 0},
		{"AX.25 (amateur radio)", unix.AF_AX25, unix.SOCK_DGRAM, 0},
		{"AppleTalk", unix.AF_APPLETALK, unix.SOCK_DGRAM, 0},
		{"LLC", unix.AF_LLC, unix.SOCK_DGRAM, 0},
	} {
		fd, err := unix.Socket(f.family, f.kind|unix.SOCK_CLOEXEC, f.proto)
		switch {
		case err == nil:
			unix.Close(fd)
			found[f.name] = "the kernel has it; it reaches no Ethernet link and is not tried here"
		case errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOSYS):
			found[f.name] = "the kernel has none"
		default:
			found[f.name] = "not to be had here: " + err.Error()
		}
	}
	return found
}
