package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has the kernel send sig to the child when we die. The keeper
// stops the servers anyway; this is for the command, and for the day somebody
// kills the keeper too. It survives the change of user: Go asks for it after
// setuid, and only running a set-user-ID program clears it.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// followGoRun makes us stop when the "go run" above us is killed. It passes no
// signal on, and without it nobody would be left to send us one.
func followGoRun() {
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/comm")
	if err == nil && strings.TrimSpace(string(comm)) == "go" {
		syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0)
	}
}
