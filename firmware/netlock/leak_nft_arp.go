//go:build leak_nft_arp

package netlock

func init() { leaks[NftARP] = true }
