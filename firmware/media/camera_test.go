package media_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
)

// beCamera is a camera's program.
func beCamera(as string, words []string) int {
	out := os.Stdout
	switch as {
	case "give":
		_, _ = out.Write(sample(words[0]))
		fmt.Fprint(os.Stderr, "first words\nlast words\n")
	case "garbage":
		n, _ := strconv.Atoi(words[0])
		_, _ = out.Write(noise(n))
	case "die":
		fmt.Fprint(os.Stderr, "looking\nno sensor")
		code, _ := strconv.Atoi(words[0])
		return code
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command(os.Args[0], "camera", "sleep")
		child.Stdout = out
		_ = child.Start()
		fmt.Fprintf(out, "%d has begun\n", child.Process.Pid)
		time.Sleep(time.Minute)
	case "sleep":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Minute)
	case "flood":
		n, _ := strconv.Atoi(words[0])
		_, _ = io.CopyN(out, zeros{}, int64(n))
	case "trickle":
		trickle(out)
	case "frames":
		for {
			if _, err := out.Write(jpeg(300)); err != nil {
				return 1
			}
			time.Sleep(5 * time.Millisecond)
		}
	case "process":
		return wholeProcess(words)
	case "scribble":
		scribble(out, words)
		time.Sleep(300 * time.Millisecond) // so that a watch can ask who it was
	case "environment":
		fmt.Fprintln(out, strings.Join(os.Environ(), "\n"))
	case "marker":
		for {
			if _, err := out.Write(bytes.Repeat([]byte(marker), 1000)); err != nil {
				return 1
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return 0
}

// marker is what must never be found in a file that is not sealed.
const marker = "PLAIN-VIDEO-0f9e8d7c-PLAIN-VIDEO"

// trickle gives a little at a time until it is asked to end, and says good-bye then.
func trickle(out io.Writer) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	for {
		select {
		case <-asked:
			_, _ = io.WriteString(out, "bye")
			return
		case <-time.After(5 * time.Millisecond):
			_, _ = out.Write(h264()[:700])
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func sample(name string) []byte {
	switch name {
	case "h264":
		return h264()
	case "ts":
		return transport(false)
	case "ts-sound":
		return transport(true)
	case "mp4":
		return fragmented(nil, false)
	case "mp4-sound":
		return fragmented(nil, true)
	case "mjpeg":
		return bytes.Repeat(jpeg(300), 20)
	}
	return nil
}

func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(p)
	p[0] = 0x11 // the beginning of nothing
	return p
}

// h264 is a stream in the form of Annex B: parameter sets and slices of noise.
func h264() (p []byte) {
	for i, kind := range []byte{0x67, 0x68, 0x65, 0x41, 0x41, 0x41} {
		p = append(p, 0, 0, 0, 1, kind)
		p = append(p, bytes.ReplaceAll(noise(200+3000*i), []byte{0}, []byte{1})...)
	}
	return p
}

// jpeg is a JPEG by its markers, with a thumbnail inside a segment.
func jpeg(coded int) []byte {
	p := []byte{0xFF, 0xD8, 0xFF, 0xE1}
	thumb := "Exif\xff\xd8\xff\xda\x00\x02x\xff\xd9"
	p = binary.BigEndian.AppendUint16(p, uint16(2+len(thumb)))
	p = append(p, thumb...)
	p = append(p, 0xFF, 0xDB, 0, 3, 0x10, 0xFF, 0xFF, 0xC0, 0, 2, 0xFF, 0xDA, 0, 4, 1, 2)
	p = append(p, bytes.ReplaceAll(noise(coded), []byte{0xFF}, []byte{0xFF, 0})...)
	p = append(p, 0xFF, 0xD3, 7, 7, 0xFF, 0xC4, 0, 3, 9, 0xFF, 0xDA, 0, 2, 5, 5, 0xFF, 0xD9)
	return p
}

// tsPacket makes a packet of a transport stream.
func tsPacket(pid int, start bool, body []byte) []byte {
	p := []byte{0x47, byte(pid >> 8), byte(pid), 0x10}
	if start {
		p[1] |= 0x40
	}
	p = append(p, body...)
	return append(p, bytes.Repeat([]byte{0xFF}, 188-len(p))...)
}

// table makes the section of a table, its check sum zero.
func table(id byte, content []byte) []byte {
	p := []byte{0, id, 0xB0, byte(5 + len(content) + 4), 0, 1, 0xC1, 0, 0}
	return append(append(p, content...), 0, 0, 0, 0)
}

func programMap(streams ...[]byte) []byte {
	return tsPacket(0x100, true, table(2, append([]byte{0xE1, 0x01, 0xF0, 0}, bytes.Join(streams, nil)...)))
}

func transport(sound bool) []byte {
	p := tsPacket(0, true, table(0, []byte{0, 1, 0xE1, 0}))
	streams := [][]byte{{0x1B, 0xE1, 0x01, 0xF0, 0}}
	if sound {
		streams = append(streams, []byte{0x0F, 0xE1, 0x02, 0xF0, 0})
	}
	p = append(p, programMap(streams...)...)
	for i := range 400 {
		p = append(p, tsPacket(0x101, i%20 == 0, append([]byte{0, 0, 1, 0xE0}, noise(100+i%80)...))...)
		if sound && i%10 == 0 {
			p = append(p, tsPacket(0x102, true, append([]byte{0, 0, 1, 0xC0}, noise(150)...))...)
		}
	}
	return p
}

// fragmented is an MP4 that a library has written.
func fragmented(t testing.TB, sound bool) []byte {
	fail := func(err error) {
		if err != nil && t != nil {
			t.Fatal(err)
		} else if err != nil {
			panic(err)
		}
	}
	init := mp4.CreateEmptyInit()
	init.AddEmptyTrack(90000, "video", "und")
	if sound {
		init.AddEmptyTrack(48000, "audio", "und")
	}
	var b bytes.Buffer
	fail(init.Encode(&b))
	for i := range uint32(5) {
		seg := mp4.NewMediaSegment()
		frag, err := mp4.CreateFragment(i+1, 1)
		fail(err)
		seg.AddFragment(frag)
		for k := range 10 {
			frag.AddFullSample(mp4.FullSample{Sample: mp4.Sample{Dur: 3000, Size: 2000}, Data: noise(2000), DecodeTime: uint64(k) * 3000})
		}
		fail(seg.Encode(&b))
	}
	return b.Bytes()
}
