package confine

// statCall is the kernel table's name of fstatat(2).
const statCall = "fstatat"

func nativeRuntime() calls { return nil }
func nativeStart() calls   { return union(nativeStat(), always(statCall, "lseek")) }

// nativeOwners are the calls that give a file to another user; here fchownat alone.
func nativeOwners() calls { return nil }
