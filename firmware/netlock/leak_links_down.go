//go:build leak_links_down

package netlock

func init() { leaks[LinksDown] = true }
