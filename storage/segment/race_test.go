//go:build race

package segment_test

// few: the race detector makes a run many times slower, and nothing here is shared.
func init() { few = true }
