package aplog

import (
	"slices"

	"holdfast/storage/segment"
)

// ranges is a set of bytes, as ranges in order that neither touch nor overlap. It holds maxRanges
// of them at most, so that nobody who sends every other byte fills the memory.
type ranges struct{ r []segment.Range }

// find returns the index of the first range that ends at or behind pos.
func (s *ranges) find(pos int64) int {
	i, _ := slices.BinarySearchFunc(s.r, pos, func(r segment.Range, pos int64) int {
		if r.To < pos {
			return -1
		}
		return 1
	})
	return i
}

// add takes the bytes from..to into the set. It is false, and nothing is changed, if the set
// would hold too many ranges then.
func (s *ranges) add(from, to int64) bool {
	if from >= to {
		return true
	}
	i := s.find(from)
	j := i
	for j < len(s.r) && s.r[j].From <= to {
		from, to = min(from, s.r[j].From), max(to, s.r[j].To)
		j++
	}
	if i == j && len(s.r) >= maxRanges {
		return false
	}
	s.r = slices.Replace(s.r, i, j, segment.Range{From: from, To: to})
	return true
}

// has reports whether all bytes from..to are in the set.
func (s *ranges) has(from, to int64) bool {
	if from >= to {
		return true
	}
	i := s.find(from)
	if i < len(s.r) && s.r[i].To == from {
		i++
	}
	return i < len(s.r) && s.r[i].From <= from && to <= s.r[i].To
}

// reach returns the first byte at or behind pos that is not in the set.
func (s *ranges) reach(pos int64) int64 {
	i := s.find(pos)
	if i < len(s.r) && s.r[i].To == pos {
		i++
	}
	if i < len(s.r) && s.r[i].From <= pos {
		return s.r[i].To
	}
	return pos
}

// holes returns what of from..to is not in the set, n ranges at most.
func (s *ranges) holes(from, to int64, n int) []segment.Range {
	var out []segment.Range
	for i := s.find(from); from < to && len(out) < n; i++ {
		if i >= len(s.r) || s.r[i].From >= to {
			return append(out, segment.Range{From: from, To: to})
		}
		if from < s.r[i].From {
			out = append(out, segment.Range{From: from, To: s.r[i].From})
		}
		from = max(from, s.r[i].To)
	}
	return out
}

// end is the byte behind the last one, 0 in an empty set.
func (s *ranges) end() int64 {
	if len(s.r) == 0 {
		return 0
	}
	return s.r[len(s.r)-1].To
}

// drop takes all bytes before pos out of the set.
func (s *ranges) drop(pos int64) {
	i := 0
	for i < len(s.r) && s.r[i].To <= pos {
		i++
	}
	s.r = slices.Delete(s.r, 0, i)
	if len(s.r) > 0 {
		s.r[0].From = max(s.r[0].From, pos)
	}
}
