//go:build race

package vault_test

// few: the race detector makes a run many times slower, and one goroutine owns a vault.
func init() { few = true }
