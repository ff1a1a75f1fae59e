package status

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/host/v3/gpioioctl"
	"periph.io/x/host/v3/sysfs"
)

// ErrNoPin: the board has no LED or GPIO line of that name, or this process may not use it.
var ErrNoPin = errors.New("no such LED or GPIO line, or no right to use it")

// drivers looks for LEDs (/sys/class/leds) and GPIO lines (/dev/gpiochip*), by periph's drivers for
// those two alone: its package host would load others, one of which opens a socket.
var drivers = sync.OnceValue(func() error {
	_, err := driverreg.Init()
	return err
})

// OpenLight returns a LED by its name or folder below /sys/class/leds, or else a GPIO line, set as
// an output that is off. It must be called before the process is confined.
func OpenLight(name string) (gpio.PinOut, error) {
	if err := drivers(); err != nil {
		return nil, fmt.Errorf("light %s: %w", name, err)
	}
	if led, err := sysfs.LEDByName(filepath.Base(name)); err == nil {
		return led, prepare(name, led.Out(gpio.Low))
	}
	line, err := lineByName(name)
	if err != nil {
		return nil, fmt.Errorf("light %s: %w", name, err)
	}
	return line, prepare(name, line.Out(gpio.Low))
}

// OpenButton returns a GPIO line as an input that is pulled up. It must be called before the
// process is confined.
func OpenButton(name string) (gpio.PinIn, error) {
	if err := drivers(); err != nil {
		return nil, fmt.Errorf("button %s: %w", name, err)
	}
	line, err := lineByName(name)
	if err != nil {
		return nil, fmt.Errorf("button %s: %w", name, err)
	}
	if err := line.In(gpio.PullUp, gpio.NoEdge); err != nil {
		return nil, fmt.Errorf("button %s: %w", name, err)
	}
	line.Read() // requests the line now
	return line, nil
}

func prepare(name string, err error) error {
	if err != nil {
		return fmt.Errorf("light %s: %w", name, err)
	}
	return nil
}

func lineByName(name string) (*gpioioctl.GPIOLine, error) {
	for _, chip := range gpioioctl.Chips {
		if line := chip.ByName(name); line != nil {
			return line, nil
		}
	}
	return nil, ErrNoPin
}
