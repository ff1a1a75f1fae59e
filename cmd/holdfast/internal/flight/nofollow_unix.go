//go:build unix

package flight

import "syscall"

// noFollow refuses a link in the place of a file.
const noFollow = syscall.O_NOFOLLOW
