package confine

// statCall is the kernel table's name of fstatat(2).
const statCall = "fstatat"

func nativeRuntime() calls { return nil }
func nativeStart() calls   { return union(nativeStat(), always(statCall, "lseek")) }
