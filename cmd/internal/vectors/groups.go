package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"

	"holdfast/crypto/custody"
	"holdfast/crypto/keys"
	"holdfast/storage/segment"
)

// groups are vaults whose records have key groups.
func groups() []scenario {
	return slices.Concat(groupsAccepted(), groupsRejected(), groupLeaves())
}

// group is a key group for recipients, lines of a recipients.txt.
func group(streams string, recipients ...string) keys.Group {
	return keys.Group{Streams: streams, Recipients: must(keys.ParseRecipients(strings.NewReader(strings.Join(recipients, "\n"))))}
}

// groupFiles puts the files of a record's key groups into its folder.
func (b *board) groupFiles(k *keys.FlightKey) {
	b.groupTo, b.media = map[byte]age.Recipient{}, map[byte]int64{}
	for _, g := range k.Groups {
		for _, f := range g.Files {
			b.files[b.rec+"/"+f.Name] = f.Data
		}
		b.files[b.rec+"/"+keys.JoinGroup(g.Streams, "flight.pub")] = []byte(g.Public + "\n")
		for _, stream := range []byte(g.Streams) {
			b.groupTo[stream] = must(age.ParseHybridRecipient(g.Public))
		}
	}
}

// groupLeaf is what leaf K says of them.
func (b *board) groupLeaf(k *keys.FlightKey) (all []custody.KeyGroup) {
	for _, g := range k.Groups {
		of := custody.KeyGroup{Streams: g.Streams, Pub: g.Public}
		for _, f := range g.Files {
			of.Files = append(of.Files, custody.KeyFile{Name: f.Name, Data: f.Data})
		}
		i := slices.IndexFunc(b.grouped, func(asked keys.Group) bool { return asked.Streams == g.Streams })
		for _, line := range b.grouped[i].Recipients.Strings() {
			of.Recipients = append(of.Recipients, custody.Fingerprint([]byte(salt), line))
		}
		all = append(all, of)
	}
	return all
}

// recipient is whom the segments of a stream are sealed to.
func (b *board) recipient(stream byte) age.Recipient {
	if to := b.groupTo[stream]; to != nil {
		return to
	}
	return b.to
}

// mediaFile is what a block of streams A, V and P says of its data.
type mediaFile struct {
	ID       int    `json:"id"`
	Kind     string `json:"kind"`
	Source   string `json:"source"`
	Format   string `json:"format"`
	Offset   int64  `json:"offset"`
	BootUsec int64  `json:"boot_usec"`
	End      bool   `json:"end"`
}

// kinds of files, by stream.
var kinds = map[byte]mediaFile{
	'A': {Kind: "log", Source: "pull", Format: "bin"},
	'V': {Kind: "video", Source: "front", Format: "h264"},
	'P': {Kind: "photo", Source: "front", Format: "jpg"},
}

// mediaSegment is a whole closed segment of stream A, V or P, with one file in it.
func (b *board) mediaSegment(stream byte) {
	b.media[stream]++
	n := b.media[stream]
	name := fmt.Sprintf("%c%06d", stream, n)
	b.add(&custody.Opened{Record: b.rec, Segment: name, T: b.t})
	header := segment.Meta{Block: uint64(2*n - 2), BootUsec: b.t, Header: &segment.Header{Format: 1, Device: b.id, Record: b.rec, Stream: string(stream), Segment: int(n),
		Boot: "00000000-0000-0000-0000-000000000000", Version: "vectors", Lock: "bench", Grade: "none", Links: []segment.Link{{Name: "fc", Device: "pty"}}}}
	file := kinds[stream]
	file.ID, file.BootUsec, file.End = int(n), b.t, true
	p := must(b.enc.Append(nil, &segment.Block{Meta: header}))
	meta := must(json.Marshal(struct {
		segment.Meta
		File mediaFile `json:"file"`
	}{segment.Meta{Block: uint64(2*n - 1), BootUsec: b.t}, file}))
	p = binary.LittleEndian.AppendUint32(p, segment.MetaMagic)
	p = append(binary.LittleEndian.AppendUint32(p, uint32(len(meta))), meta...)
	content := must(b.enc.Append(nil, &segment.Block{Data: bytes.Repeat([]byte{stream, byte(n), 0xFF, 0xD8}, 3000)}))
	b.encoded[b.rec+"/"+name] = append(p, content[8+binary.LittleEndian.Uint32(content[4:]):]...) // without its own metadata
	b.pass(second)
	b.closeMedia(name)
}

// closeMedia writes the closed form and its leaf C.
func (b *board) closeMedia(name string) {
	p := b.sealed(name)
	b.files[b.rec+"/"+name+".age"] = p
	b.add(&custody.Closed{Record: b.rec, Segment: name, Size: int64(len(p)), SHA256: hash(p), From: b.t - second, To: b.t, T: b.t})
	b.checkpoint()
}

// filmed is a board with a flight that has telemetry for the crew, and video, photos and the
// autopilot's log, ended in good order.
func filmed(of ...keys.Group) *board {
	b := started()
	b.grouped = of
	b.begin('F', crew)
	b.segment(5)
	for _, stream := range []byte("VPVA") {
		b.mediaSegment(stream)
	}
	b.segment(5)
	b.end()
	return b
}

// desks are the key groups of most scenarios: photos and video for one, the autopilot's log for
// two that must come together.
func desks() []keys.Group {
	return []keys.Group{group("A", recipientOf(classicIdentity)+" + "+recipientOf(secondIdentity)), group("PV", recipientOf(recoveryIdentity))}
}

// seenBy is the result for identities to which these streams stay closed.
func seenBy(b *board, sealed string, identities ...string) *result {
	r := all(b)
	r.identities, r.sealed = identities, sealed
	if strings.Contains(sealed, "T") {
		r.inPlace = nil
	}
	return r
}

const crewKey = hybridIdentity

func groupsAccepted() []scenario {
	clean := func(name, comment string, build func() *result) scenario {
		return scenario{name, comment, "clean", 0, "", build}
	}
	return []scenario{
		clean("groups", "photos and video for one desk, the autopilot's log for two that must come together; the crew reads telemetry alone", func() *result {
			return seenBy(filmed(desks()...), "VPA", crewKey)
		}),
		clean("groups-media", "the same, and an identity that fits the group of photos and video alone: telemetry stays closed, and nothing is damaged", func() *result {
			return seenBy(filmed(desks()...), "TA", recoveryIdentity)
		}),
		clean("groups-two-persons", "the same, and the two who read the autopilot's log", func() *result {
			return seenBy(filmed(desks()...), "TVP", classicIdentity, secondIdentity)
		}),
		clean("groups-all", "the same, and all of them", func() *result {
			return seenBy(filmed(desks()...), "none", crewKey, recoveryIdentity, classicIdentity, secondIdentity)
		}),
		clean("groups-parallel", "a group of video with a hybrid and a classical recipient: two wrapped files, the second opens; the rest is the crew's", func() *result {
			return seenBy(filmed(group("V", recipientOf(recoveryIdentity), recipientOf(classicIdentity))), "TPA", classicIdentity)
		}),
		clean("groups-three", "each of the streams in a group of its own, all for the crew", func() *result {
			of := strings.TrimSpace(crew)
			return seenBy(filmed(group("A", of), group("P", of), group("V", of)), "none", crewKey)
		}),
		clean("groups-unknown-file", "files with names that no group can have mean nothing", func() *result {
			b := filmed(desks()...)
			for _, name := range []string{"flight.VP.key.age", "flight.T.key.age", "flight.v.pub", "flight.V.key.100.age", "flight.AA.pub"} {
				b.files[b.rec+"/"+name] = b.files[b.rec+"/flight.PV.key.age"]
			}
			return seenBy(b, "VPA", crewKey)
		}),
		{"groups-cut", "a cut before flight.V.pub was synced: it is there with zero bytes", "cut", 3, "", func() *result {
			b := started()
			b.grouped = []keys.Group{group("V", recipientOf(recoveryIdentity))}
			b.begin('F', crew)
			b.segment(5)
			b.files[b.rec+"/flight.V.pub"] = append(b.files[b.rec+"/flight.V.pub"][:40:40], make([]byte, 100)...)
			b.again()
			return seenBy(b, "none", crewKey)
		}},
		{"groups-begun", "a cut before leaf K, in a record with a group", "cut", 3, "", func() *result {
			b := flown(1)
			b.grouped = desks()
			b.folder('G', crew)
			b.files[b.rec+"/T000001.open.age"] = b.headerOnly()
			return all(b)
		}},
	}
}

func groupsRejected() []scenario {
	reject := func(name, comment, state string, do func(b *board), sealed string, identities ...string) scenario {
		return scenario{name, comment, state, 4, "V14", func() *result {
			b := filmed(desks()...)
			do(b)
			return seenBy(b, sealed, identities...)
		}}
	}
	const key, pub = "F00000001/flight.PV.key.age", "F00000001/flight.PV.pub"
	return []scenario{
		reject("v14-group-key", "one bit of the wrapped key of a group; leaf K's copy opens its streams", "tampered", func(b *board) { b.flip(key, -20) }, "TA", recoveryIdentity),
		reject("v14-group-key-gone", "the wrapped key of a group is gone; leaf K's copy opens its streams", "missing", func(b *board) { delete(b.files, key) }, "TA", recoveryIdentity),
		reject("v14-group-key-swapped", "two groups have each other's wrapped keys", "tampered", func(b *board) {
			b.files[key], b.files["F00000001/flight.A.key.age"] = b.files["F00000001/flight.A.key.age"], b.files[key]
		}, "TA", recoveryIdentity),
		reject("v14-group-key-added", "one wrapped key of a group more than leaf K names", "tampered", func(b *board) { b.files["F00000001/flight.PV.key.2.age"] = b.files[key] }, "VPA", crewKey),
		reject("v14-group-added", "files of a group that leaf K does not name, which somebody made for himself: they change nothing", "tampered", func(b *board) {
			k := must(keys.NewFlightKey(must(keys.ParseRecipients(strings.NewReader(recipientOf(secondIdentity)))), group("AV", recipientOf(secondIdentity))))
			b.files["F00000001/flight.AV.key.age"] = k.Groups[0].Files[0].Data
			b.files["F00000001/flight.AV.pub"] = []byte(k.Groups[0].Public + "\n")
		}, "TA", recoveryIdentity),
		reject("v14-group-pub", "the recipient of a group is that of the flight", "tampered", func(b *board) { b.files[pub] = b.files["F00000001/flight.pub"] }, "VPA", crewKey),
		reject("v14-group-pub-gone", "the recipient of a group is gone, from a record that has ended", "missing", func(b *board) { delete(b.files, pub) }, "VPA", crewKey),
	}
}

// groupLeaves are vaults with a leaf K that says of key groups what no leaf K may say.
func groupLeaves() []scenario {
	leaf := func(name, comment string, change func(body string, groups []string) string) scenario {
		return scenario{name, comment + "; counted and signed", "tampered", 4, "V12", func() *result {
			b := flown(1)
			n := len(b.Frames)
			b.pass(epoch) // leaf E signs the first flight
			b.grouped = desks()
			k := b.folder('F', crew)
			b.next++
			b.leaf(custody.Leaf{Kind: custody.KindKey, Body: []byte(change(b.keyBody(k)))})
			b.checkpoint()
			b.segment(5)
			r := some(b, b.Frames[:n], b.Frames[n:])
			r.identities = []string{crewKey}
			return r
		}}
	}
	list := func(body string, groups ...string) string {
		return strings.Replace(body, ",\"policy\"", ",\"groups\":["+strings.Join(groups, ",")+"],\"policy\"", 1)
	}
	return []scenario{
		leaf("v12-groups-order", "a leaf K whose key groups are not in order", func(body string, g []string) string { return list(body, g[1], g[0]) }),
		leaf("v12-groups-twice", "a leaf K with a key group twice", func(body string, g []string) string { return list(body, g[0], g[0]) }),
		leaf("v12-groups-none", "a leaf K with a list of no key groups", func(body string, _ []string) string { return list(body) }),
		leaf("v12-groups-shared", "a leaf K with a stream in two key groups", func(body string, g []string) string {
			return list(body, g[0], strings.NewReplacer(`"PV"`, `"AV"`, ".PV.", ".AV.").Replace(g[1]))
		}),
		leaf("v12-groups-telemetry", "a leaf K with a key group of telemetry", func(body string, g []string) string {
			return list(body, g[0], strings.NewReplacer(`"PV"`, `"T"`, ".PV.", ".T.").Replace(g[1]))
		}),
		leaf("v12-groups-letters", "a leaf K with a key group whose letters are not in order", func(body string, g []string) string {
			return list(body, g[0], strings.NewReplacer(`"PV"`, `"VP"`, ".PV.", ".VP.").Replace(g[1]))
		}),
		leaf("v12-groups-files", "a leaf K with a key group that has the file of another", func(body string, g []string) string {
			return list(body, g[0], strings.Replace(g[1], ".PV.", ".A.", 1))
		}),
		leaf("v12-groups-place", "a leaf K whose key groups stand behind the policy", func(body string, g []string) string {
			return strings.Replace(body, ",\"pub\"", ",\"groups\":["+strings.Join(g, ",")+"],\"pub\"", 1)
		}),
	}
}

// keyBody returns leaf K of the record in hand without its key groups, and each of these.
func (b *board) keyBody(k *keys.FlightKey) (body string, groups []string) {
	leaf := &custody.FlightKey{Pub: k.Public, Record: b.rec, T: b.t, Recipients: []string{custody.Fingerprint([]byte(salt), strings.TrimSpace(crew))},
		Policy: custody.Policy{FlushArmedUsec: 200_000, FlushIdleUsec: 900_000, Record: "always", WhenFull: "stop"}}
	for _, f := range k.Files {
		leaf.Files = append(leaf.Files, custody.KeyFile{Name: f.Name, Data: f.Data})
	}
	for _, g := range b.groupLeaf(k) {
		groups = append(groups, string(must(json.Marshal(g))))
	}
	return string(must(custody.NewLeaf(leaf)).Body), groups
}
