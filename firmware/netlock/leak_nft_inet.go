//go:build leak_nft_inet

package netlock

func init() { leaks[NftInet] = true }
