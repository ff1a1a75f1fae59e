//go:build cgo

package firmware

// withCgo: this build starts its threads through the C library.
const withCgo = true
