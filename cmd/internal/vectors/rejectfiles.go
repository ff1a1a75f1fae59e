package main

import (
	"slices"

	"holdfast/crypto/custody"
)

// rejectedFiles are vaults whose files differ from a log that is right: V13 to V15.
func rejectedFiles() []scenario {
	tampered := func(name, comment, rule string, build func() *result) scenario {
		return scenario{name, comment, "tampered", 4, rule, build}
	}
	missing := func(name, comment, rule string, build func() *result) scenario {
		return scenario{name, comment, "missing", 4, rule, build}
	}
	unsigned := func(name, comment, rule string, build func() *result) scenario {
		return scenario{name, comment, "unsigned", 4, rule, build}
	}
	const t1, t2 = "F00000001/T000001.age", "F00000001/T000002.age"
	return []scenario{
		tampered("v13-flipped", "one bit of a closed segment", "V13", func() *result {
			b := flown(2)
			b.flip(t1, -20)
			return some(b, b.Frames[5:], nil)
		}),
		tampered("v13-extended", "one byte more behind a closed segment", "V13", func() *result {
			b := flown(2)
			b.files[t2] = append(b.files[t2], 0)
			r := all(b)
			r.silent = true
			return r
		}),
		tampered("v13-swapped", "two segments have each other's names", "V13", func() *result {
			b := flown(2)
			b.files[t1], b.files[t2] = b.files[t2], b.files[t1]
			return some(b, nil, slices.Concat(b.Frames[5:], b.Frames[:5]))
		}),
		missing("v13-gone", "a segment in the middle is gone", "V13", func() *result {
			b := flown(3)
			delete(b.files, t2)
			return some(b, slices.Concat(b.Frames[:5], b.Frames[10:]), nil)
		}),
		tampered("v13-open-forged", "an open segment was replaced by one that anybody can seal to flight.pub", "V13", func() *result {
			b, open := flying()
			delete(b.growing, b.rec+"/"+open)
			delete(b.encoded, b.rec+"/"+open)
			n := len(b.Frames)
			b.seq += 50
			b.header(open)
			b.more(open, 5)
			return some(b, b.Frames[:5], b.Frames[n:])
		}),
		tampered("v13-open-short", "an open segment is shorter than the checkpoint says", "V13", func() *result {
			b, open := flying()
			path := b.rec + "/" + open + ".open.age"
			b.files[path] = b.files[path][:30000]
			return some(b, b.Frames[:5], nil)
		}),
		missing("v13-unsigned-close", "an open segment was replaced by a closed one that anybody can seal, and a leaf C that nothing signs names that", "V13", func() *result {
			b, open := flying()
			path := b.rec + "/" + open
			delete(b.files, path+".open.age")
			delete(b.encoded, path)
			b.header(open)
			b.record(open, 5)
			p := b.sealed(open)
			b.files[path+".age"] = p
			b.add(&custody.Closed{Record: b.rec, Segment: open, Size: int64(len(p)), SHA256: hash(p), From: b.t, To: b.t, Frames: 5, T: b.t})
			return some(b, b.Frames[:5], nil)
		}),
		missing("v13-unsigned-undone", "an open segment is gone, and a leaf that nothing signs says that it was taken back", "V13", func() *result {
			b, open := flying()
			delete(b.files, b.rec+"/"+open+".open.age")
			b.add(&custody.Lost{Record: b.rec, Segment: open, T: b.t, Why: custody.WhyUndone})
			return some(b, b.Frames[:5], nil)
		}),
		missing("v13-open-gone", "an open segment that the checkpoint names is gone", "V13", func() *result {
			b, open := flying()
			delete(b.files, b.rec+"/"+open+".open.age")
			return some(b, b.Frames[:5], nil)
		}),
		tampered("v13-recovered", "a segment that leaf R names was cut shorter afterwards", "V13", func() *result {
			b, open := flying()
			b.again(open + ".open.age")
			path := b.rec + "/" + open + ".open.age"
			b.files[path] = b.files[path][:len(b.files[path])-1]
			return some(b, b.Frames[:5], nil)
		}),
		tampered("v13-recovered-shortened", "an open segment was cut shorter than the checkpoint said, and then the board was started and a flight made", "V13", func() *result {
			b, open := flying()
			path := b.rec + "/" + open + ".open.age"
			b.files[path] = b.files[path][:30000]
			b.again(open + ".open.age")
			b.flight('G', crew, 1)
			return some(b, slices.Concat(b.Frames[:5], b.Frames[10:]), nil)
		}),
		tampered("v13-recovered-changed", "one bit of an open segment was changed, and then the board was started and a flight made", "V13", func() *result {
			b, open := flying()
			b.flip(b.rec+"/"+open+".open.age", 40000)
			b.again(open + ".open.age")
			b.flight('G', crew, 1)
			r := some(b, slices.Concat(b.Frames[:5], b.Frames[10:]), nil)
			r.apartSilent = true
			return r
		}),
		missing("v13-recovered-gone", "an open segment was removed, and then the board was started and a flight made", "V13", func() *result {
			b, open := flying()
			delete(b.files, b.rec+"/"+open+".open.age")
			b.again(open + ".open.age")
			b.flight('G', crew, 1)
			return some(b, slices.Concat(b.Frames[:5], b.Frames[10:]), nil)
		}),
		missing("v13-recovered-replaced", "an open segment was replaced by a closed one that anybody can seal, and then the board was started and a flight made", "V13", func() *result {
			b, open := flying()
			path := b.rec + "/" + open
			delete(b.files, path+".open.age")
			b.files[path+".age"] = b.sealed(open)
			b.again(open + ".open.age")
			b.flight('G', crew, 1)
			r := some(b, slices.Concat(b.Frames[:5], b.Frames[10:]), nil)
			r.apartSilent = true
			return r
		}),
		missing("v13-recovered-unnamed", "a segment has an O, neither C nor R names a file of it, and none is there", "V13", func() *result {
			b, _ := flyingUnnamed()
			b.again()
			b.flight('G', crew, 1)
			return some(b, slices.Concat(b.Frames[:5], b.Frames[10:]), nil)
		}),
		tampered("v14-flight-key", "one bit of flight.key.age; leaf K's copy opens the flight", "V14", func() *result {
			b := flown(1)
			b.flip(b.rec+"/flight.key.age", -20)
			return all(b)
		}),
		missing("v14-flight-key-gone", "flight.key.age is gone; leaf K's copy opens the flight", "V14", func() *result {
			b := flown(1)
			delete(b.files, b.rec+"/flight.key.age")
			return all(b)
		}),
		tampered("v14-flight-pub", "flight.pub is that of another flight", "V14", func() *result {
			b := flown(1)
			n := b.files["F00000001/flight.pub"]
			b.flight('F', crew, 1)
			b.files[b.rec+"/flight.pub"] = n
			return all(b)
		}),
		tampered("v14-readme", "README.txt has a line more", "V14", func() *result {
			b := flown(1)
			b.files["README.txt"] = append(readmeText(), "Call us.\n"...)
			return all(b)
		}),
		missing("v15-record-gone", "a whole flight is gone", "V15", func() *result {
			b := flown(1)
			b.flight('F', crew, 1)
			b.drop("F00000001")
			return some(b, b.Frames[5:], nil)
		}),
		missing("v15-unsigned-deletion", "a whole flight is gone, and a leaf that nothing signs says that it was deleted", "V15", func() *result {
			b := flown(1)
			b.drop(b.rec)
			b.add(&custody.Lost{Record: b.rec, T: b.t, Why: custody.WhyDeleted})
			return some(b, nil, nil)
		}),
		unsigned("v15-segment-added", "a segment that anybody can seal was added to a flight that has ended", "V15", func() *result {
			b := flown(1)
			b.segments++
			b.header("T000002")
			b.record("T000002", 3)
			b.files[t2] = b.sealed("T000002")
			return some(b, b.Frames[:5], b.Frames[5:])
		}),
		unsigned("v15-record-grafted", "a flight of another board stands in the next number", "V15", func() *result {
			b, other := flown(1), newBoard(2)
			other.start("none")
			other.flight('G', crew, 1)
			other.seq = 100
			other.flight('F', crew, 1)
			for name, p := range other.files {
				if len(name) > 9 && name[:9] == "F00000002" {
					b.files[name] = p
				}
			}
			return some(b, b.Frames, other.Frames[5:])
		}),
		unsigned("v15-closed-added", "in a flight that a cut ended, a closed segment that no leaf names", "V15", func() *result {
			b := started()
			b.begin('F', crew)
			b.segment(5)
			b.segments++
			b.header("T000002")
			b.record("T000002", 3)
			b.files[t2] = b.sealed("T000002")
			return some(b, b.Frames[:5], b.Frames[5:])
		}),
	}
}
