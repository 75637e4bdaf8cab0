//go:build unix

package main

import (
	"os"
	"syscall"
	"unsafe"
)

// inForeground tells whether we are in the foreground of a terminal, and so
// are sent its Ctrl-C together with everybody else there.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	var group int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, tty.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return errno == 0 && int(group) == syscall.Getpgrp()
}
