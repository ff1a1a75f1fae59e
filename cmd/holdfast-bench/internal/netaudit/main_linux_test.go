package netaudit

import (
	"fmt"
	"os"
	"testing"
)

// TestMain lets the audit start this test binary again as one of its parts.
func TestMain(m *testing.M) {
	if n := len(PartArgs); len(os.Args) > n && os.Args[1] == PartArgs[0] && os.Args[2] == PartArgs[1] {
		if err := Part(os.Args[n+1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
