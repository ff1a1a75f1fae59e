package confine

// archSetFS is ARCH_SET_FS of asm/prctl.h: where a thread finds its own data.
const archSetFS = 0x1002

// statCall is the kernel table's name of fstatat(2).
const statCall = "newfstatat"

func nativeRuntime() calls { return always("gettimeofday") }

func nativeStart() calls {
	return union(when("arch_prctl", 0, archSetFS), nativeStat(), always(statCall, "lseek"))
}

// nativeOwners are the calls that give a file to another user.
func nativeOwners() calls { return always("chown", "lchown") }
