package flight

import (
	"slices"

	"holdfast/storage/segment"
)

// spans are the bytes of a file that are there: rows in order that neither overlap nor touch.
type spans []segment.Range

// at returns the first row that ends at from or behind it.
func (s spans) at(from int64) int {
	if n := len(s); n == 0 || s[n-1].To < from {
		return n // pieces come in order as a rule
	}
	i, _ := slices.BinarySearchFunc(s, from, func(r segment.Range, from int64) int {
		if r.To < from {
			return -1
		}
		return 1
	})
	return i
}

// apart tells whether a piece would be a row of its own.
func (s spans) apart(from, to int64) bool {
	i := s.at(from)
	return i == len(s) || s[i].From > to
}

// add takes the bytes from..to, to excluded.
func (s *spans) add(from, to int64) {
	if from >= to {
		return
	}
	i := s.at(from)
	j := i
	for j < len(*s) && (*s)[j].From <= to {
		from, to = min(from, (*s)[j].From), max(to, (*s)[j].To)
		j++
	}
	if j == i+1 { // the row before goes on
		(*s)[i] = segment.Range{From: from, To: to}
		return
	}
	*s = slices.Replace(*s, i, j, segment.Range{From: from, To: to})
}

// missing returns what of from..to is not there, in order.
func (s spans) missing(from, to int64) (holes []segment.Range) {
	for i := s.at(from); from < to; i++ {
		if i == len(s) || s[i].From >= to {
			return append(holes, segment.Range{From: from, To: to})
		}
		if s[i].From > from {
			holes = append(holes, segment.Range{From: from, To: s[i].From})
		}
		from = max(from, s[i].To)
	}
	return holes
}

// end returns the first byte behind all that is there.
func (s spans) end() int64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].To
}

// total returns the sum of the lengths of rows.
func total(rows []segment.Range) (n int64) {
	for _, r := range rows {
		n += r.To - r.From
	}
	return n
}
