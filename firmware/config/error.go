package config

import (
	"errors"
	"fmt"
)

// What can be wrong with a file, for errors.Is. Each comes wrapped in an *Error.
var (
	ErrSyntax     = errors.New("not well formed")
	ErrUnknownKey = errors.New("unknown key")
	ErrValue      = errors.New("value refused")
	ErrMissing    = errors.New("missing")
)

// Error names the key that is at fault and the line it stands on.
type Error struct {
	Kind   error    // one of ErrSyntax, ErrUnknownKey, ErrValue, ErrMissing
	Key    string   // such as "vault.path"; empty where no key is to blame
	Line   int      // from 1; 0 when it is not known
	Reason string   // what is wrong; empty where Kind says it all
	Known  []string // with ErrUnknownKey, and for a value out of a list: what would be accepted
}

// Error returns one line without a line break.
func (e *Error) Error() string {
	switch {
	case e.Kind == ErrUnknownKey:
		return "unknown key " + e.Key + e.on()
	case e.Key == "" && e.Line > 0:
		return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
	case e.Key == "":
		return e.Reason
	}
	return e.Key + e.on() + ": " + e.Reason
}

// Unwrap returns Kind.
func (e *Error) Unwrap() error { return e.Kind }

func (e *Error) on() string {
	if e.Line == 0 {
		return ""
	}
	return fmt.Sprintf(" on line %d", e.Line)
}
