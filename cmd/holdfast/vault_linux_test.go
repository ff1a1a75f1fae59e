package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/mavlink"
	"holdfast/mavlink/tlog"
	"holdfast/storage/segment"
	"holdfast/storage/vault"
)

func init() { programs["makevault"] = makeVault }

// makeVault records as a board would: makevault [-cut] [-key FILE] [-video RECIPIENT] [-log] DIR RECIPIENT.
// DIR gets two flights of two segments; with -cut the second is never closed. The device's id is
// printed. A second call with the same -key goes on in the same vault. With -video each flight has a
// segment of video, too, in a key group of its own. With -log each flight begins to stream a log, and
// a ground record behind both flights has the rest of that of the second, and a log of the first that was pulled.
func makeVault() {
	cut := flag.Bool("cut", false, "do not close the last record")
	key := flag.String("key", "", "file of the device key, made where it is not there")
	video := flag.String("video", "", "recipient of a key group of video")
	logs := flag.Bool("log", false, "record logs of the autopilot, too")
	flag.Parse()
	if err := record(flag.Arg(0), flag.Arg(1), *video, *key, *cut, *logs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func record(dir, recipient, video, key string, cut, logs bool) error {
	device, err := deviceKey(key)
	if err != nil {
		return err
	}
	v, clock, err := openVault(dir, recipient, video, device)
	if err != nil {
		return err
	}
	fmt.Println(device.ID())
	fsys, err := vault.NewOSFS(dir)
	if err != nil {
		return err
	}
	media := v.NewMedia(fsys, nil)
	for n := range 2 {
		if err := v.Begin(vault.Flight, vault.RecordID{}); err != nil {
			return err
		}
		for range 2 {
			*clock += 11 * time.Second // the next block rotates
			if err := appendFrames(v, *clock); err != nil {
				return err
			}
		}
		if video != "" {
			b := &segment.Block{Data: make([]byte, 1000), Stored: true, Meta: segment.Meta{File: &segment.File{ID: 1, Kind: segment.KindVideo,
				Source: "front", Format: "ts", Size: 1000, End: true}}}
			if err := media.Append('V', b); err != nil {
				return err
			}
		}
		if logs {
			putLog(v, &segment.File{ID: n + 1, Source: "stream", BeganUsec: int64(n + 1)}, "the log of a flight, ")
		}
		if cut && n == 1 {
			return nil
		}
		for v.Step() {
		}
	}
	if logs {
		return errors.Join(groundLogs(v, clock), v.Close())
	}
	return v.Close()
}

// groundLogs makes the ground record that holds logs of the flights before it.
func groundLogs(v *vault.Vault, clock *time.Duration) error {
	if err := v.Begin(vault.Ground, vault.RecordID{}); err != nil {
		return err
	}
	if err := appendFrames(v, *clock); err != nil {
		return err
	}
	putLog(v, &segment.File{ID: 2, Source: "stream", BeganUsec: 2, Offset: 21, End: true}, "and its end")
	putLog(v, &segment.File{ID: 3, Source: "pull", Log: 7, Of: "F00000001", End: true}, "pulled")
	*clock += time.Minute
	for v.Step() {
	}
	return nil
}

func putLog(v *vault.Vault, f *segment.File, text string) {
	f.Kind, f.Format = segment.KindLog, "bin"
	v.PutFile(&segment.Block{Data: []byte(text), Meta: segment.Meta{File: f}})
}

func deviceKey(path string) (*keys.DeviceKey, error) {
	if data, err := os.ReadFile(path); err == nil {
		return keys.ParseDeviceKey(data)
	}
	k, err := keys.NewDeviceKey(rand.Reader)
	if err == nil && path != "" {
		err = os.WriteFile(path, k.Marshal(), 0o600)
	}
	return k, err
}

func openVault(dir, recipient, video string, device *keys.DeviceKey) (*vault.Vault, *time.Duration, error) {
	rs, err1 := keys.ParseRecipients(strings.NewReader(recipient))
	signer, err2 := device.Signer()
	err3 := os.MkdirAll(dir, 0o700)
	fsys, err4 := vault.NewOSFS(dir)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, nil, err
	}
	clock := new(time.Duration)
	*clock = time.Minute
	v, err := vault.Open(vault.Config{FS: fsys, DeviceID: device.ID(), DevicePub: device.Verifier() + "\n", DeviceKey: signer, Rand: rand.Reader,
		Now:        func() time.Duration { *clock += time.Microsecond; return *clock },
		FlushArmed: 200 * time.Millisecond, FlushIdle: 900 * time.Millisecond, WhenFull: "stop", Record: "always",
		Header: segment.Header{Lock: "bench", Grade: "none", Links: []segment.Link{{Name: "fc"}}},
		NewKey: func() (*vault.FlightKey, error) { return newKey(rs, video) }})
	return v, clock, err
}

// newKey makes the identity of a record, and that of its video where that has a recipient.
func newKey(rs *keys.Recipients, video string) (*vault.FlightKey, error) {
	var groups []keys.Group
	if video != "" {
		to, err := keys.ParseRecipients(strings.NewReader(video))
		if err != nil {
			return nil, err
		}
		groups = []keys.Group{{Streams: "V", Recipients: to}}
	}
	k, err := keys.NewFlightKey(rs, groups...)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, custody.SaltSize)
	out := &vault.FlightKey{Public: k.Public, Recipients: []string{custody.Fingerprint(salt, rs.Strings()[0])}, Salt: salt,
		Files: []vault.KeyFile{{Name: k.Files[0].Name, Data: k.Files[0].Data}}}
	for _, g := range k.Groups {
		out.Groups = append(out.Groups, vault.KeyGroup{Streams: g.Streams, Public: g.Public, Recipients: []string{custody.Fingerprint(salt, video)},
			Files: []vault.KeyFile{{Name: g.Files[0].Name, Data: g.Files[0].Data}}})
	}
	return out, nil
}

// appendFrames makes a block of 20 frames durable.
func appendFrames(v *vault.Vault, at time.Duration) error {
	const frames = 20
	b := segment.Block{Meta: segment.Meta{Frames: frames}}
	for seq := range frames {
		f := make([]byte, 10+28)
		copy(f, []byte{0xFD, 28, 0, 0, byte(seq), 1, 1, 30, 0, 0})
		f[37] = 1
		extra, _ := mavlink.CRCExtra(30)
		f = binary.LittleEndian.AppendUint16(f, mavlink.Checksum(append(append([]byte(nil), f[1:]...), extra)))
		b.Data = tlog.AppendEntry(b.Data, uint64(at.Microseconds()), f)
	}
	if err := v.Append(&b); err != nil {
		return err
	}
	return v.Flush()
}
