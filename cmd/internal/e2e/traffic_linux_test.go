package e2e_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/mavlink/vehicle"
)

// vehicleOf returns the options of a short flight with a camera.
func vehicleOf(seed uint64) vehicle.Options {
	return vehicle.Options{Seed: seed, Duration: 20 * time.Second, Camera: true}
}

// emissions flies a vehicle and returns all that it sent.
func emissions(t testing.TB, o vehicle.Options) (all []vehicle.Emission) {
	t.Helper()
	v, err := vehicle.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, ok := v.Next()
		if !ok {
			break
		}
		all = append(all, e)
	}
	if v.Err() != nil || len(all) < 1000 {
		t.Fatalf("the vehicle sent %d frames: %v", len(all), v.Err())
	}
	return all
}

// flightFrames returns the frames alone.
func flightFrames(t testing.TB, o vehicle.Options) (frames [][]byte) {
	t.Helper()
	for _, e := range emissions(t, o) {
		frames = append(frames, e.Raw)
	}
	return frames
}

func join(frames [][]byte) (stream []byte) {
	for _, f := range frames {
		stream = append(stream, f...)
	}
	return stream
}

// makeFrame builds a MAVLink 2 frame, checksum and all.
func makeFrame(seq, sys, comp byte, id uint32, payload []byte) []byte {
	f := []byte{0xFD, byte(len(payload)), 0, 0, seq, sys, comp, byte(id), byte(id >> 8), byte(id >> 16)}
	f = append(f, payload...)
	crc := uint16(0xFFFF)
	for _, b := range f[1:] {
		crc = crcStep(crc, b)
	}
	crc = crcStep(crc, crcExtras()[id])
	return append(f, byte(crc), byte(crc>>8))
}

// Numbers of the MAVLink specification that the tests need.
const (
	msgHeartbeat      = 0
	msgEncapsulated   = 131
	autopilotPX4      = 12
	autopilotInvalid  = 8
	typeQuadrotor     = 2
	typeGimbal        = 26
	modeArmed         = 0x80
	componentGimbal   = 154
	componentOfFlight = 1
)

// heartbeat builds a HEARTBEAT.
func heartbeat(seq, sys, comp byte, armed bool) []byte {
	kind, autopilot, mode := byte(typeQuadrotor), byte(autopilotPX4), byte(1)
	if comp == componentGimbal {
		kind, autopilot = typeGimbal, autopilotInvalid
	}
	if armed {
		mode |= modeArmed
	}
	return makeFrame(seq, sys, comp, msgHeartbeat, []byte{0, 0, 0, 0, kind, autopilot, mode, 4, 3})
}

// isArmed tells of a HEARTBEAT of the flight controller; known is false for other frames.
func isArmed(frame []byte) (armed, known bool) {
	s := parseSpan(frame)
	if s.id != msgHeartbeat || s.comp != componentOfFlight || len(frame) < 17 {
		return false, false
	}
	return frame[16]&modeArmed != 0, true
}

// randomFrames builds n frames that do not compress: ENCAPSULATED_DATA of a companion, from the
// given sequence number on.
func randomFrames(r *rand.Rand, first, n int) (stream []byte) {
	payload := make([]byte, 255)
	for i := first; i < first+n; i++ {
		for j := 0; j+8 <= len(payload); j += 8 {
			binary.LittleEndian.PutUint64(payload[j:], r.Uint64())
		}
		payload[254] = 1 // MAVLink 2 cuts zeros at the end
		stream = append(stream, makeFrame(byte(i), 1, 191, msgEncapsulated, payload)...)
	}
	return stream
}

// spoil damages about one byte in a hundred: flips bits of it, or puts a random byte before it.
func spoil(r *rand.Rand, stream []byte) (out []byte) {
	for _, b := range stream {
		switch r.IntN(200) {
		case 0:
			b ^= 1 << r.IntN(8)
		case 1:
			out = append(out, byte(r.Uint32()))
		}
		out = append(out, b)
	}
	return out
}
