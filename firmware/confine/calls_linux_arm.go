package confine

// On 32 bits the calls that carry a time or an offset come in two sizes, and Go has changed
// from the one to the other.

const mmapCall = "mmap2"

func nativeStat() calls { return always("fstat64") }

func nativeRuntime() calls {
	return always("cacheflush", "set_tls", "sigreturn", "fcntl64", "gettimeofday",
		"futex_time64", "clock_gettime64", "clock_nanosleep_time64", "epoll_wait")
}

func nativeStart() calls {
	return union(nativeStat(), always("open", "uname", "brk", "fstatat64", "_llseek", "lseek", "getuid32", "geteuid32", "getgid32", "getegid32", "ugetrlimit"))
}

func nativeFiles() calls {
	return always("fstat64", "fstatat64", "_llseek", "lseek", "ftruncate64", "ftruncate", "arm_fadvise64_64",
		"statfs64", "fstatfs64", "utimensat_time64", "ppoll_time64")
}

func nativeUsers() calls {
	return always("setgroups32", "setresgid32", "setresuid32", "setgid32", "setuid32", "setgroups", "setresgid", "setresuid")
}

// nativeOwners are the calls that give a file to another user.
func nativeOwners() calls { return always("chown32", "lchown32", "fchown32") }
