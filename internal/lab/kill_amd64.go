package lab

import "golang.org/x/sys/unix"

// Calls that newer architectures have only in the form with a directory.
func init() {
	pathCalls[unix.SYS_MKDIR] = pathCall{"mkdir", 0}
	pathCalls[unix.SYS_RMDIR] = pathCall{"unlink", 0}
	pathCalls[unix.SYS_UNLINK] = pathCall{"unlink", 0}
	pathCalls[unix.SYS_LINK] = pathCall{"link", 1}
	pathCalls[unix.SYS_SYMLINK] = pathCall{"symlink", 1}
	pathCalls[unix.SYS_RENAME] = pathCall{"rename", 0}
	pathCalls[unix.SYS_CREAT] = pathCall{"open", 0}
	openCalls[unix.SYS_OPEN] = 0
}
