package main

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"

	"holdfast/crypto/custody"
	"holdfast/storage/segment"
)

// piece is a piece of a file of stream A, V or P, in the order in which a reader meets it.
type piece struct {
	record string
	letter byte
	source string
	id     int
	offset int64
	data   []byte
}

// fileLines is what the hash of a vector's files is of: for each file, in the order of records,
// streams, sources and ids, a line that says which bytes of it are there. A byte is taken from
// the first piece that has it.
func fileLines(all []piece) (text []byte) {
	type key struct {
		number, letter, source string
		id                     int
	}
	files := map[key]map[int64]byte{}
	for _, p := range all {
		k := key{p.record[1:], string(p.letter), cleanSource(p.source), p.id}
		if files[k] == nil {
			files[k] = map[int64]byte{}
		}
		for i, c := range p.data {
			at := p.offset + int64(i)
			if _, ok := files[k][at]; !ok {
				files[k][at] = c
			}
		}
	}
	var keys []key
	for k := range files {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.letter, b.letter), cmp.Compare(a.source, b.source), a.id-b.id)
	})
	for _, k := range keys {
		text = append(text, fileLine(k.letter, k.source, k.id, files[k])...)
	}
	return text
}

func fileLine(letter, source string, id int, content map[int64]byte) string {
	var at []int64
	for n := range content {
		at = append(at, n)
	}
	slices.Sort(at)
	var data []byte
	var ranges bytes.Buffer
	for i, n := range at {
		data = append(data, content[n])
		if i == 0 || at[i-1] != n-1 {
			fmt.Fprintf(&ranges, ",%d", n)
		}
		if i == len(at)-1 || at[i+1] != n+1 {
			fmt.Fprintf(&ranges, "-%d", n+1)
		}
	}
	return fmt.Sprintf("%s %s %d %d %x %s\n", letter, source, id, len(data), hash(data), bytes.TrimPrefix(ranges.Bytes(), []byte(",")))
}

var plainSource = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// cleanSource is a source as a file's name can have it.
func cleanSource(s string) string {
	if plainSource.MatchString(s) {
		return s
	}
	h := fmt.Sprintf("%x", s)
	return "x" + h[:min(64, len(h))]
}

// openOther begins a segment of stream A, V or P.
func (b *board) openOther(letter byte) string {
	b.others[letter]++
	name := fmt.Sprintf("%c%06d", letter, b.others[letter])
	b.add(&custody.Opened{Record: b.rec, Segment: name, T: b.t})
	b.header(name)
	return name
}

// pixels are bytes of a file, the same for the same file and offset.
func pixels(letter byte, id int, offset int64, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		at := offset + int64(i)
		p[i] = byte(at*at>>7) ^ byte(at*31) ^ letter ^ byte(id*77)
	}
	return p
}

// give puts a piece of n bytes into an open segment.
func (b *board) give(name string, f segment.File, n int) {
	b.pass(second / 10)
	f.BootUsec = b.t
	data := pixels(name[0], f.ID, f.Offset, n)
	b.Pieces = append(b.Pieces, piece{b.rec, name[0], f.Source, f.ID, f.Offset, data})
	b.put(name, segment.Block{Meta: segment.Meta{File: &f}, Data: data, Stored: name[0] != 'A'})
}

// camera is a piece of a video.
func camera(source string, offset int64) segment.File {
	return segment.File{ID: 1, Kind: segment.KindVideo, Source: source, Format: "h264", Offset: offset, BeganUsec: 5 * second}
}

// still is a whole photo with what is known of it.
func still(id int) segment.File {
	return segment.File{ID: id, Kind: segment.KindPhoto, Source: "front", Format: "jpg", Name: fmt.Sprintf("IMG_%d.JPG", id), End: true,
		Photo: &segment.Photo{Index: id, Trigger: "interval", TakenUsec: 6 * second, UncertaintyUsec: 40_000,
			Pose: &segment.Pose{BootUsec: 6 * second, Latitude: 47.3977, Longitude: 8.5456, Altitude: 488.1, Height: 30.5, Roll: -1.5, Pitch: 2.25, Yaw: 271,
				AttUsec: 6*second - 20_000, UncertaintyM: 0.4, Gimbal: &segment.Gimbal{BootUsec: 6 * second, Pitch: -90}}}}
}

// flushed is what is open of a segment on the medium, with its open line.
func (b *board) flushed(name string) {
	b.writeOpen(name)
	b.sortOpened()
	b.checkpoint()
}

// whole brings the closing chunk into the open form.
func (b *board) whole(name string) []byte {
	path := b.rec + "/" + name
	f := b.growing[path]
	if err := f.sealer.Close(); err != nil {
		panic(err)
	}
	b.files[path+".open.age"] = bytes.Clone(f.out.Bytes())
	return b.files[path+".open.age"]
}

// linked gives the open form, whole, its second name.
func (b *board) linked(name string) []byte {
	p := b.whole(name)
	b.files[b.rec+"/"+name+".age"] = p
	return p
}

// unlinked adds leaf C and takes the first name away.
func (b *board) unlinked(name string) {
	p := b.linked(name)
	b.opened = slices.DeleteFunc(b.opened, func(o custody.OpenFile) bool { return o.Record == b.rec && o.Name == name+".open.age" })
	b.add(&custody.Closed{Record: b.rec, Segment: name, Size: int64(len(p)), SHA256: hash(p), From: b.t - second, To: b.t, T: b.t})
	b.checkpoint()
	delete(b.files, b.rec+"/"+name+".open.age")
}

// cameras is a flight in which two cameras have an open segment each.
func cameras() (b *board, left, right string) {
	b = started()
	b.begin('F', crew)
	b.segment(5)
	left, right = b.openOther('V'), b.openOther('V')
	for i := range int64(3) {
		b.give(left, camera("left", i*3000), 3000)
		b.give(right, camera("right", i*70_000), 70_000)
	}
	b.flushed(left)
	b.flushed(right)
	return b, left, right
}

// media are vaults with streams A, V and P, and with what was sent.
func media() []scenario {
	return slices.Concat(mediaWhole(), mediaCut(), mediaRejected())
}

func mediaWhole() []scenario {
	return []scenario{
		{"media", "a flight with video of two cameras at once, and two photos with their poses", "clean", 0, "", func() *result {
			b, left, right := cameras()
			for id := range 2 {
				name := b.openOther('P')
				b.give(name, still(id+1), 20_000)
				b.flushed(name)
				b.unlinked(name)
			}
			b.unlinked(left)
			b.unlinked(right)
			b.end()
			return all(b)
		}},
		{"files", "two logs of an autopilot in stream A: one whole, with pieces in any order, some twice and some that overlap; one with holes, about another record", "clean", 0, "", func() *result {
			b := started()
			b.begin('G', crew)
			b.segment(5)
			log := func(id int, offset int64) segment.File {
				return segment.File{ID: id, Kind: segment.KindLog, Source: "pull", Format: "bin", Offset: offset, Log: 7}
			}
			name := b.openOther('A')
			for _, at := range []int64{0, 2000, 500, 3000, 2000, 1000} {
				b.give(name, log(1, at), 1100)
			}
			b.close(name)
			name = b.openOther('A')
			holes := log(2, 90)
			holes.Of, holes.Size, holes.Lost, holes.Why = "F00000009", 5000, []segment.Range{{From: 0, To: 90}, {From: 270, To: 900}}, "not sent again"
			b.give(name, holes, 180)
			b.give(name, log(2, 900), 90)
			end := log(2, 0)
			end.End, end.SHA256 = true, "00"
			b.put(name, segment.Block{Meta: segment.Meta{File: &end}})
			b.close(name)
			b.end()
			return all(b)
		}},
		{"media-lost", "a medium that failed has cost bytes of a video, as the next segment says; the failed one stays in its open form", "cut", 3, "", func() *result {
			b := started()
			b.begin('F', crew)
			name := b.openOther('V')
			b.give(name, camera("front", 0), 3000)
			b.flushed(name)
			b.failedOther(name)
			b.blocks['V']++ // the block that is lost
			name = b.openOther('V')
			next := camera("front", 5000)
			next.Lost, next.Why = []segment.Range{{From: 3000, To: 5000}}, "the medium failed"
			b.give(name, next, 1000)
			b.flushed(name)
			b.unlinked(name)
			b.end()
			return all(b)
		}},
		{"media-no-links", "the medium has no hard links: a whole segment keeps its open form, and leaf X names all of it", "cut", 3, "", func() *result {
			b := started()
			b.begin('F', crew)
			name := b.openOther('V')
			b.give(name, camera("front", 0), 100_000)
			b.flushed(name)
			b.whole(name)
			b.failedOther(name)
			b.end()
			return all(b)
		}},
		{"sent", "frames that were sent to the autopilot, refused, and not taken by the line, in two segments", "clean", 0, "", func() *result {
			b := started()
			b.begin('F', crew)
			for i := range 2 {
				name := b.open()
				b.record(name, 3, func(blk *segment.Block) {
					for n := range 3 {
						blk.Sent = segment.AppendSent(blk.Sent, segment.SentRun{StampUsec: uint64(b.t), Origin: uint8(n % 2), Outcome: uint8(n), Data: heartbeat(byte(10*i + n))})
					}
					b.Sent = append(b.Sent, blk.Sent)
				})
				b.close(name)
			}
			b.end()
			return all(b)
		}},
	}
}

// failedOther says that the open form is all there is of a segment.
func (b *board) failedOther(name string) {
	p := b.files[b.rec+"/"+name+".open.age"]
	size := int64(len(p))
	b.opened = slices.DeleteFunc(b.opened, func(o custody.OpenFile) bool { return o.Record == b.rec && o.Name == name+".open.age" })
	b.add(&custody.Lost{Record: b.rec, Segment: name, Size: &size, SHA256: hash(p), Why: custody.WhyFailed, T: b.t})
	b.checkpoint()
}

func mediaCut() []scenario {
	return []scenario{
		{"media-cut", "a cut while two cameras had an open segment each", "cut", 3, "", func() *result {
			b, _, _ := cameras()
			return all(b)
		}},
		{"media-cut-whole", "a cut after the closing chunk of a video, before its second name", "cut", 3, "", func() *result {
			b, left, _ := cameras()
			b.whole(left)
			return all(b)
		}},
		{"media-cut-link", "a cut after a video had its second name, before leaf C", "cut", 3, "", func() *result {
			b, left, _ := cameras()
			b.linked(left)
			return all(b)
		}},
		{"media-cut-leaf", "a cut after leaf C and its checkpoint, before the first name was removed", "cut", 3, "", func() *result {
			b, left, _ := cameras()
			b.unlinked(left)
			b.files[b.rec+"/"+left+".open.age"] = b.files[b.rec+"/"+left+".age"]
			return all(b)
		}},
		{"media-recovered-link", "a cut after a video had its second name; the next start named the first, of which a checkpoint had spoken, and removed the other", "cut", 3, "", func() *result {
			b, left, right := cameras()
			b.whole(left)
			b.again(left+".open.age", right+".open.age")
			b.flight('G', crew, 1)
			return all(b)
		}},
	}
}

func mediaRejected() []scenario {
	return []scenario{
		{"v13-media-changed", "a byte of a closed video was changed", "tampered", 4, "V13", func() *result {
			b, left, right := cameras()
			b.unlinked(left)
			b.unlinked(right)
			b.end()
			b.flip(b.rec+"/"+left+".age", -100)
			b.Pieces = slices.DeleteFunc(b.Pieces, func(p piece) bool { return p.source == "left" })
			return all(b)
		}},
		{"v13-media-gone", "an open video of which a checkpoint names bytes is gone", "missing", 4, "V13", func() *result {
			b, left, _ := cameras()
			delete(b.files, b.rec+"/"+left+".open.age")
			b.Pieces = slices.DeleteFunc(b.Pieces, func(p piece) bool { return p.source == "left" })
			return all(b)
		}},
		{"v07-media-order", "segments of two cameras were named in another order than that of their numbers", "tampered", 4, "V7", func() *result {
			other := map[string]string{"V000001": "V000002", "V000002": "V000001"}
			b := started()
			b.begin('F', crew)
			b.edit = func(e custody.Entry) custody.Entry {
				if o, ok := e.(*custody.Opened); ok && o.Segment[0] == 'V' {
					o.Segment = other[o.Segment]
				}
				return e
			}
			for range 2 {
				name := b.openOther('V')
				b.give(name, camera("left", 0), 1000)
				b.flushed(name)
			}
			r := all(b)
			r.Pieces, r.silent = nil, true
			return r
		}},
	}
}
