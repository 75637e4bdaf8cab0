//go:build unix && !linux

package main

import "syscall"

// Elsewhere there is no such request to the kernel; the keeper does the rest.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

func followGoRun() {}
