//go:build goexperiment.runtimesecret

package custody

import (
	"runtime"
	"runtime/secret"
)

// do runs f so that what f leaves on stack and in registers is erased when it returns, and
// what f allocated is erased when the garbage collector frees it.
func do(f func()) { secret.Do(f) }

// wipes is true where runtime/secret erases; elsewhere it only calls f.
const wipes = runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")
