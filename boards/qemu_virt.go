package boards

// The machine that `qemu-system-aarch64 -M virt` emulates; its device tree comes from QEMU:
// https://www.qemu.org/docs/master/system/arm/virt.html
var qemuVirt = Board{
	Name:        "qemu-virt",
	Description: "QEMU's 64-bit ARM virtual machine (-M virt), for tests",
	Compatible:  []string{"linux,dummy-virt"},
	UARTs: []UART{
		{
			Node:  "/pl011@9000000",
			Names: []string{"ttyAMA0"},
			Kind:  "PL011",
			Pins:  "first -serial of the command line",
			Note:  "the kernel's console, unless the kernel command line says otherwise",
		},
	},
	Storage:       Storage{Device: "/dev/vda", Medium: "virtio disk"},
	Grade:         GradeA,
	TestedOn:      NotTested,
	DefaultDevice: "/dev/ttyAMA0",
}
