//go:build leak_nft_bridge

package netlock

func init() { leaks[NftBridge] = true }
