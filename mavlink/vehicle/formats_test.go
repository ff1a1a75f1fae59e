package vehicle_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/mavlink/vehicle"
)

// readDataFlash reads an ArduPilot log as its tools do: it knows the FMT message alone and
// learns the rest. It returns how often each type came.
func readDataFlash(b []byte) (map[string]int, error) {
	sizes := map[rune]int{'b': 1, 'B': 1, 'M': 1, 'h': 2, 'H': 2, 'c': 2, 'C': 2, 'i': 4, 'I': 4, 'e': 4, 'E': 4, 'f': 4, 'L': 4,
		'n': 4, 'q': 8, 'Q': 8, 'd': 8, 'N': 16, 'Z': 64}
	type format struct {
		name   string
		length int
	}
	known, seen := map[byte]format{128: {"FMT", 89}}, map[string]int{}
	for at := 0; at < len(b); {
		if len(b)-at < 3 || b[at] != 0xA3 || b[at+1] != 0x95 {
			return seen, fmt.Errorf("no message at %d", at)
		}
		f, ok := known[b[at+2]]
		if !ok || len(b)-at < f.length {
			return seen, fmt.Errorf("type %d at %d unknown or cut", b[at+2], at)
		}
		m := b[at+3 : at+f.length]
		if f.name == "FMT" {
			text := func(from, n int) string { return string(bytes.TrimRight(m[from:from+n], "\x00")) }
			fields, labels := text(6, 16), text(22, 64)
			length := 3
			for _, c := range fields {
				length += sizes[c]
			}
			if int(m[1]) != length || len(fields) != strings.Count(labels, ",")+1 {
				return seen, fmt.Errorf("FMT of %s says %d bytes for %q, %q", text(2, 4), m[1], fields, labels)
			}
			known[m[0]] = format{text(2, 4), length}
		}
		seen[f.name]++
		at += f.length
	}
	return seen, nil
}

// readULog reads a PX4 log. It returns how often each type of message and each topic came.
func readULog(b []byte) (map[string]int, error) {
	if len(b) < 16 || !bytes.Equal(b[:8], []byte("ULog\x01\x12\x35\x01")) {
		return nil, errors.New("no ULog")
	}
	seen, formats, topics := map[string]int{}, map[string]int{}, map[uint16]string{}
	first := true
	for b = b[16:]; len(b) > 0; {
		if len(b) < 3 || len(b) < 3+int(binary.LittleEndian.Uint16(b)) {
			return seen, errors.New("cut")
		}
		kind, m := b[2], b[3:3+int(binary.LittleEndian.Uint16(b))]
		b = b[3+len(m):]
		if first != (kind == 'B') {
			return seen, errors.New("flag bits are not the first message")
		}
		first = false
		seen[string(kind)]++
		if err := readULogMessage(kind, m, formats, topics, seen); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

func readULogMessage(kind byte, m []byte, formats map[string]int, topics map[uint16]string, seen map[string]int) error {
	switch kind {
	case 'B':
		if len(m) != 40 {
			return fmt.Errorf("flag bits of %d bytes", len(m))
		}
	case 'F':
		name, fields, _ := strings.Cut(string(m), ":")
		formats[name] = ulogSize(fields)
	case 'I', 'P':
		if len(m) < 2 || len(m) <= int(m[0]) || !strings.Contains(string(m[1:1+m[0]]), " ") {
			return fmt.Errorf("bad key in %q", m)
		}
	case 'A':
		topics[binary.LittleEndian.Uint16(m[1:])] = string(m[3:])
	case 'D':
		topic := topics[binary.LittleEndian.Uint16(m)]
		if size, ok := formats[topic]; !ok || size != len(m)-2 {
			return fmt.Errorf("%d bytes of %q, want %d", len(m)-2, topic, size)
		}
		seen[topic]++
	case 'L', 'S':
	default:
		return fmt.Errorf("message %q", kind)
	}
	return nil
}

// ulogSize adds up fields such as "float[4] q;".
func ulogSize(fields string) (n int) {
	sizes := map[string]int{"uint64_t": 8, "int32_t": 4, "float": 4, "uint8_t": 1}
	for _, f := range strings.Split(strings.TrimSuffix(fields, ";"), ";") {
		kind, _, _ := strings.Cut(f, " ")
		count := 1
		if base, array, ok := strings.Cut(kind, "["); ok {
			kind = base
			_, _ = fmt.Sscanf(array, "%d]", &count)
		}
		n += sizes[kind] * count
	}
	return n
}

func readLog(s vehicle.Stack, b []byte) (map[string]int, error) {
	if s == vehicle.PX4 {
		return readULog(b)
	}
	return readDataFlash(b)
}

// The logs are what the tools of their autopilots read, and the newest is about the flight.
func TestLogsAreReadable(t *testing.T) {
	want := map[vehicle.Stack][]string{
		vehicle.ArduPilot: {"FMT", "PARM", "MSG", "ATT", "IMU", "GPS", "BAT"},
		vehicle.PX4:       {"F", "I", "P", "A", "L", "S", "vehicle_attitude", "sensor_combined", "vehicle_gps_position", "battery_status"},
	}
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 40 * time.Second, LogSize: 100_000}, vehicle.Loss{})
		b.run(time.Minute, nil)
		logs := b.v.Logs()
		if len(logs) != 3 {
			t.Fatalf("%d logs", len(logs))
		}
		for i, l := range logs {
			seen, err := readLog(stack, l.Data)
			if err != nil {
				t.Fatalf("%s: %v", l.Path, err)
			}
			for _, name := range want[stack] {
				if seen[name] == 0 {
					t.Errorf("%s has no %s", l.Path, name)
				}
			}
			if n := len(l.Data); i < 2 && (n < 100_000 || n > 100_200) || i == 2 && (n < 210_000 || n > 250_000) {
				t.Errorf("%s has %d bytes", l.Path, n)
			}
		}
		if bytes.Equal(logs[0].Data, logs[1].Data) {
			t.Error("old logs are alike")
		}
	}
}

// The log grows while the motors run, at the rate that was asked for.
func TestLogGrowsWithTheFlight(t *testing.T) {
	for _, stack := range stacks {
		b := newBoard(t, vehicle.Options{Stack: stack, Duration: 30 * time.Second, OldLogs: -1, LogRate: 5000}, vehicle.Loss{})
		if b.run(5*time.Second, nil); len(b.v.Logs()) != 0 {
			t.Fatal("a log before the flight")
		}
		var sizes []int
		for _, at := range []time.Duration{10, 20, 29, 30} {
			b.run(at*time.Second, nil)
			sizes = append(sizes, len(b.v.Logs()[0].Data))
		}
		if grown := sizes[1] - sizes[0]; grown < 49_000 || grown > 53_000 || sizes[3] != sizes[2] {
			t.Errorf("%v: sizes %v", stack, sizes)
		}
	}
}

// Readers of a DataFlash log take UTC from week and time of week in GPS.
func TestDataFlashTellsUTC(t *testing.T) {
	b := newBoard(t, vehicle.Options{Start: start, Duration: 13 * time.Second, OldLogs: -1}, vehicle.Loss{})
	b.run(time.Minute, nil)
	log := b.v.Logs()[0].Data
	at := bytes.Index(log, []byte{0xA3, 0x95, 68})
	if at < 0 {
		t.Fatal("no GPS message")
	}
	m := log[at+3:]
	up := time.Duration(binary.LittleEndian.Uint64(m)) * time.Microsecond
	ms, week := time.Duration(binary.LittleEndian.Uint32(m[10:])), time.Duration(binary.LittleEndian.Uint16(m[14:]))
	const leap = 18 * time.Second
	utc := time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC).Add(week*7*24*time.Hour + ms*time.Millisecond - leap)
	if d := utc.Sub(start.Add(up)); d.Abs() > time.Millisecond {
		t.Errorf("%v at %v, %v off", utc, up, d)
	}
}
