package boards

// Any 64-bit ARM Linux board. It has no compatible string, so it is never detected, only chosen.
var genericARM64 = Board{
	Name:          "generic-arm64",
	Description:   "any 64-bit ARM board with Linux and a serial port",
	Grade:         GradeB,
	TestedOn:      NotTested,
	DefaultDevice: "/dev/serial0",
}
