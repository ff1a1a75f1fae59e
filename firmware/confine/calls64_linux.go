//go:build amd64 || arm64

package confine

// The calls whose names differ between 32 and 64 bits.

const mmapCall = "mmap"

func nativeStat() calls  { return always("fstat") }
func nativeFiles() calls { return always("fstat", statCall, "lseek", "ftruncate", "fadvise64") }
func nativeUsers() calls { return always("setgroups", "setresgid", "setresuid", "setgid", "setuid") }
