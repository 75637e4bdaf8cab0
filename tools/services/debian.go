//go:build unix

package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

//go:embed debian.sh
var installScript string

// findOrInstall finds a program, installing Debian's package first where it is
// missing.
func (s *session) findOrInstall(pkg string, find func() string) (string, error) {
	if found := find(); found != "" {
		return found, nil
	}
	argv := []string{"sh", "-c", installScript, "sh", pkg}
	if os.Geteuid() != 0 {
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	if !s.install || firstProgram("apt-get") == "" || firstProgram(argv[0]) == "" {
		why := "it cannot be installed here without root or passwordless sudo and apt-get"
		if !s.install {
			why = "--no-install keeps it from being installed"
		}
		return "", fmt.Errorf("there is no local program, and %s: install %s", why, pkg)
	}
	say("installing Debian's package %s (a minute or so, this once; its own service stays off)", pkg)
	cmd := exec.Command(argv[0], argv[1:]...)
	// Ctrl-C must not leave a package half installed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := output(cmd); err != nil {
		return "", fmt.Errorf("install %s: %w", pkg, err)
	}
	found := find()
	if found == "" {
		return "", fmt.Errorf("the package %s is installed, but its programs are not where they are expected", pkg)
	}
	return found, nil
}
