package vault

// State is what can be said of a record or a segment.
type State string

// States, as list, verify and flight.json name them.
const (
	StateOpen     State = "open"     // a recorder holds the vault's lock and writes it
	StateClean    State = "clean"    // closed in good order
	StateCut      State = "cut"      // power or process ended it; whole up to there
	StateDamaged  State = "damaged"  // parts of it cannot be read
	StateTampered State = "tampered" // it differs from what was signed
	StateMissing  State = "missing"  // a number in the row is not there
	StateUnsigned State = "unsigned" // nothing signed covers it
)

// rank orders states from good to bad.
var rank = map[State]int{StateClean: 0, StateOpen: 1, StateCut: 2, StateDamaged: 3, StateUnsigned: 4, StateMissing: 5, StateTampered: 6}

// Worse returns the worse of two states; the empty state is better than any.
func (s State) Worse(t State) State {
	if s == "" || t != "" && rank[t] > rank[s] {
		return t
	}
	return s
}
