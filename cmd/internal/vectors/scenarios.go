package main

import (
	"slices"
	"strings"

	"holdfast/storage/vault"
)

// scenario builds one vector.
type scenario struct {
	name    string
	comment string
	state   string
	exit    int
	rule    string
	build   func() *result
}

// result is the vault of a scenario, and what is expected beyond the verdict.
type result struct {
	*board
	inPlace, apart [][]byte // frames that open yields
	lines, away    [][]byte // lines of stream X in place, and apart
	silent         bool     // nothing is said about frames
	apartSilent    bool     // nothing is said about those apart
	pinned         string
	head           []byte
	identities     []string
	sealed         string // Vector.Sealed
}

func readmeText() []byte { return []byte(vault.Readme) }

// all is the result where every frame that was recorded comes out in place.
func all(b *board) *result { return &result{board: b, inPlace: b.Frames, lines: b.Lines} }

// some is the result where these frames come out in place, and those apart.
func some(b *board, inPlace, apart [][]byte) *result {
	return &result{board: b, inPlace: inPlace, apart: apart}
}

func (s scenario) vector() *Vector {
	r := s.build()
	v := &Vector{Comment: strings.Split(s.comment, "\n"), Expect: "accept", State: s.state, Exit: s.exit, Rule: s.rule,
		PinnedKey: strings.TrimSpace(r.pinned), Head: r.head, Identities: r.identities, Sealed: r.sealed, Tree: map[string][]byte{r.id + "/LOG/": nil}}
	if s.exit == 4 {
		v.Expect = "reject"
	}
	if len(v.Identities) == 0 {
		v.Identities = []string{hybridIdentity}
	}
	if !r.silent {
		v.Frames = framesHash(r.inPlace)
		if !r.apartSilent {
			v.Unverified = framesHash(r.apart)
		}
	}
	if len(r.Lines) > 0 {
		v.Audit, v.UnverifiedAudit = framesHash(r.lines), framesHash(r.away)
	}
	if len(r.Pieces) > 0 {
		v.Files = framesHash([][]byte{fileLines(r.Pieces)})
	}
	if len(r.Sent) > 0 {
		v.Sent = framesHash(r.Sent)
	}
	for name, data := range r.files {
		v.Tree[r.id+"/"+name] = data
		for i := range name {
			if name[i] == '/' {
				v.Tree[r.id+"/"+name[:i+1]] = nil
			}
		}
	}
	v.Tree[r.id+"/"] = nil
	return v
}

func scenarios() []scenario {
	return slices.Concat(accepted(), cutOnes(), rejectedLogs(), rejectedFiles(), audits(), groups(), media())
}

// started is a board that runs, in its first boot.
func started() *board {
	b := newBoard(1)
	b.start("none")
	return b
}

var crew = recipientOf(hybridIdentity) + "\n"

// flown is a board with one flight of so many segments, ended in good order.
func flown(segments int) *board {
	b := started()
	b.flight('F', crew, segments)
	return b
}

// flying is a board whose flight has a closed segment and an open one with some frames that are
// on the medium, under a checkpoint.
func flying() (b *board, open string) {
	b = started()
	b.begin('F', crew)
	b.segment(5)
	open = b.open()
	b.record(open, 5)
	b.writeOpen(open)
	b.checkpoint()
	return b, open
}

func (b *board) file(name string) []byte { return b.files[name] }

// flip changes one bit of a file.
func (b *board) flip(name string, at int) {
	p := slices.Clone(b.files[name])
	if at < 0 {
		at += len(p)
	}
	p[at] ^= 1
	b.files[name] = p
}

// inLog finds the start of the n-th leaf of a kind.
func (b *board) inLog(kind byte, n int) int {
	for at := 0; at < len(b.log); {
		size := int(b.log[at+1])<<16 | int(b.log[at+2])<<8 | int(b.log[at+3])
		if b.log[at+4] == kind {
			if n == 0 {
				return at
			}
			n--
		}
		at += size + 9
	}
	panic("no such leaf")
}
