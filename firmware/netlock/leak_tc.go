//go:build leak_tc

package netlock

func init() { leaks[TC] = true }
