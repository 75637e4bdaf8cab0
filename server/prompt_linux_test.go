package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudo-terminal: write to user what the user types, and
// read from it what a program prints.
func openTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	backendtest.Must(t, err)
	t.Cleanup(func() { user.Close() })
	backendtest.Must(t, unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	backendtest.Must(t, err)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	backendtest.Must(t, err)
	t.Cleanup(func() { program.Close() })
	return user, program
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	backendtest.Must(t, err)
	return state.Lflag&unix.ECHO != 0
}

// TestInterruptedPrompt checks that an interrupted password prompt exits and
// leaves a terminal that echoes.
func TestInterruptedPrompt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	succeed(t, dir, "a password of mia", "recover", "user", "create", "mia")
	path, err := tollgateBinary()
	backendtest.Must(t, err)
	for name, interrupt := range map[string]func(user *os.File, p *os.Process) error{
		"Ctrl-C":  func(user *os.File, _ *os.Process) error { _, err := user.WriteString("\x03"); return err },
		"SIGTERM": func(_ *os.File, p *os.Process) error { return p.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			user, terminal := openTerminal(t)
			var said bytes.Buffer
			cmd := exec.Command(path, "recover", "user", "reset-password", "mia")
			cmd.Dir, cmd.Env = dir, []string{"TOLLGATE_BCRYPT_COST=4"}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, &said, &said
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
			backendtest.Must(t, cmd.Start())
			late := time.AfterFunc(apitest.Timeout, func() { cmd.Process.Kill() })
			defer late.Stop()
			apitest.Eventually(t, "the prompt hides what is typed", func() bool { return !echoes(t, terminal) })
			backendtest.Must(t, interrupt(user, cmd.Process))
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(said.String(), "interrupted") {
				t.Errorf("exit code %d, and it said %s", code, &said)
			}
			if !echoes(t, terminal) {
				t.Error("the terminal does not show what is typed")
			}
		})
	}
}
