//go:build race

package audit

// The race detector makes everything some ten times slower, and nothing here is concurrent.
func init() { few = true }
