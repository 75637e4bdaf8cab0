//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// All clean-up is done by a second copy of this program, the keeper. It is
// told through a pipe what there is to remove, and removes it once the pipe
// closes: when we ask for it, and just as well when we were killed with -9,
// which no handler of ours could do anything about. It sits in a session of
// its own, out of reach of Ctrl-C and of signals to our process group.
type keeper struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

const keeperVerb = "keep-until-eof"

func startKeeper() (*keeper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, keeperVerb)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the clean-up process: %w", err)
	}
	return &keeper{cmd: cmd, pipe: pipe}, nil
}

// add names something to remove; call it before creating the thing. A write
// into the pipe succeeds before the keeper reads it, and survives our death.
func (k *keeper) add(chore ...string) {
	line, _ := json.Marshal(chore) // strings always marshal
	if _, err := k.pipe.Write(append(line, '\n')); err != nil {
		say("the clean-up process is gone (%v); remove by hand afterwards: %q", err, chore)
	}
}

func (k *keeper) close() {
	k.pipe.Close()
	k.cmd.Wait() // it has reported its failures itself
}

// keep is the keeper's main function.
func keep(in io.Reader) int {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	var chores [][]string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var chore []string
		if err := json.Unmarshal(lines.Bytes(), &chore); err == nil {
			chores = append(chores, chore)
		}
	}
	code := 0
	for _, chore := range slices.Backward(chores) {
		if err := do(chore); err != nil {
			say("clean-up: %q: %v", chore, err)
			code = 1
		}
	}
	return code
}

func do(chore []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	switch chore[0] {
	case "remove":
		return os.RemoveAll(chore[1])
	case "container":
		return exec.CommandContext(ctx, chore[1], "rm", "--force", "--volumes", chore[2]).Run()
	case "redis":
		return stopRedis(chore[1])
	case "postgres":
		return stopPostgres(ctx, chore[1], chore[2])
	}
	return fmt.Errorf("unknown clean-up")
}

// stopPostgres goes by the data folder rather than by a process id, so it also
// finds a server which a test has restarted. Immediate: the data is removed
// next, and a client which still hangs on must not hold anything up.
func stopPostgres(ctx context.Context, bin, data string) error {
	if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var owner *syscall.Credential
	if info, err := os.Stat(data); err == nil && os.Geteuid() == 0 {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
		}
	}
	cmd := command(ctx, owner, data, filepath.Join(bin, "pg_ctl"), "stop", "-D", data, "-m", "immediate", "-w", "-t", "10")
	out, err := cmd.CombinedOutput()
	if err == nil || !serverLives(data) {
		return nil // it may have died before us, leaving its pid file behind
	}
	return fmt.Errorf("%w: %s", err, out)
}

// serverLives tells whether the process named in the pid file still exists.
func serverLives(data string) bool {
	f, err := os.Open(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return false
	}
	defer f.Close()
	var pid int
	if _, err := fmt.Fscan(f, &pid); err != nil {
		return false
	}
	return syscall.Kill(pid, 0) == nil
}
