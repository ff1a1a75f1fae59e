//go:build !cgo

package firmware

// withCgo: this build starts its threads itself.
const withCgo = false
