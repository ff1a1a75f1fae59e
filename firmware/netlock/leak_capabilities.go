//go:build leak_capabilities

package netlock

func init() { leaks[Capabilities] = true }
