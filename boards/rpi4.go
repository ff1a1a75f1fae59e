package boards

// Raspberry Pi 4 Model B (BCM2711). UARTs, overlays and device names as in
// https://www.raspberrypi.com/documentation/computers/configuration.html#configure-uarts
// and the kernel's bcm2711-rpi-4-b.dts. GPIO numbers are those of the 40-pin header.
var rpi4 = Board{
	Name:        "rpi4",
	Description: "Raspberry Pi 4 Model B",
	Compatible:  []string{"raspberrypi,4-model-b"},
	UARTs: []UART{
		{
			Node:       "/soc/serial@7e201000",
			Names:      []string{"ttyAMA0"},
			Kind:       "PL011",
			Pins:       "uart0: GPIO14 TX (pin 8), GPIO15 RX (pin 10), ALT0",
			BootConfig: []string{"enable_uart=1", "dtoverlay=disable-bt"},
			Note:       "belongs to Bluetooth until dtoverlay=disable-bt; then /dev/serial0 links to it",
		},
		{
			Node:       "/soc/serial@7e215040",
			Names:      []string{"ttyS0", "ttyS1"},
			Kind:       "mini-UART",
			Pins:       "uart1: GPIO14 TX (pin 8), GPIO15 RX (pin 10), ALT5",
			BootConfig: []string{"enable_uart=1"},
			Note:       "the same pins as uart0; its rate follows the core clock, so use uart0; /dev/serial0 links to it while Bluetooth is on; ttyS1 on a mainline kernel",
		},
		{
			Node:       "/soc/serial@7e201400",
			Names:      []string{"ttyAMA2", "ttyAMA1"},
			Kind:       "PL011",
			Pins:       "uart2: GPIO0 TX (pin 27), GPIO1 RX (pin 28), ALT4",
			BootConfig: []string{"dtoverlay=uart2"},
			Note:       "pins are meant for the EEPROM of a HAT; older kernels number the extra ports in order",
		},
		{
			Node:       "/soc/serial@7e201600",
			Names:      []string{"ttyAMA3", "ttyAMA1"},
			Kind:       "PL011",
			Pins:       "uart3: GPIO4 TX (pin 7), GPIO5 RX (pin 29), ALT4",
			BootConfig: []string{"dtoverlay=uart3"},
			Note:       "older kernels number the extra ports in order",
		},
		{
			Node:       "/soc/serial@7e201800",
			Names:      []string{"ttyAMA4", "ttyAMA1"},
			Kind:       "PL011",
			Pins:       "uart4: GPIO8 TX (pin 24), GPIO9 RX (pin 21), ALT4",
			BootConfig: []string{"dtoverlay=uart4"},
			Note:       "shares its pins with SPI0; older kernels number the extra ports in order",
		},
		{
			Node:       "/soc/serial@7e201a00",
			Names:      []string{"ttyAMA5", "ttyAMA1"},
			Kind:       "PL011",
			Pins:       "uart5: GPIO12 TX (pin 32), GPIO13 RX (pin 33), ALT4",
			BootConfig: []string{"dtoverlay=uart5"},
			Note:       "shares its pins with the two hardware PWM channels; older kernels number the extra ports in order",
		},
	},
	LED: LED{Sysfs: "/sys/class/leds/ACT"},
	Gadget: Gadget{
		Node:       "/soc/usb@7e980000",
		Port:       "USB-C (the power input)",
		BootConfig: []string{"dtoverlay=dwc2,dr_mode=peripheral"},
	},
	Storage:       Storage{Device: "/dev/mmcblk0", Medium: "microSD card"},
	Watchdog:      Watchdog{Device: "/dev/watchdog0", BootConfig: []string{"dtparam=watchdog=on"}},
	Grade:         GradeA,
	TestedOn:      NotTested,
	DefaultDevice: "/dev/serial0",
}
