//go:build leak_nft_netdev

package netlock

func init() { leaks[NftNetdev] = true }
