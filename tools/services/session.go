//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const startTimeout = 60 * time.Second

// session is what one run has found or started.
type session struct {
	fast    bool
	install bool
	keeper  *keeper

	dir     string              // private folder, made when first needed
	account *syscall.Credential // who the servers run as; nil: whoever we are
	engine  *string             // container engine, "" for none; nil: not looked for yet
	servers []*server

	postgresURL, redisURL string
	env                   []string
}

// server is a process of ours which outlives the function that started it.
type server struct {
	process *os.Process
	exited  chan struct{}
	log     string
}

func newSession(fast, install bool) (*session, error) {
	k, err := startKeeper()
	if err != nil {
		return nil, err
	}
	return &session{fast: fast, install: install, keeper: k}, nil
}

func (s *session) close() {
	s.keeper.close()
	for _, srv := range s.servers {
		select {
		case <-srv.exited:
		default: // it did not listen to the keeper; a stopped process would not
			srv.process.Kill()
			<-srv.exited
		}
	}
}

// privateDir makes a folder below the session's own, owned by the account the
// servers run as. PostgreSQL refuses to run as root, so root hands over to
// postgres or nobody.
func (s *session) privateDir(name string) (string, error) {
	if s.dir == "" {
		parent := os.TempDir()
		if os.Geteuid() == 0 {
			account, err := unprivileged()
			if err != nil {
				return "", err
			}
			s.account = account
			parent = "/tmp" // root's TMPDIR may be closed to everybody else
		}
		// The name is short because a Unix socket's path must stay below 104 bytes.
		dir, err := os.MkdirTemp(parent, "tollgate-")
		if err != nil {
			return "", err
		}
		s.keeper.add("remove", dir)
		s.dir = dir
		if err := s.handOver(dir); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, s.handOver(dir)
}

func (s *session) handOver(path string) error {
	if s.account == nil {
		return nil
	}
	return os.Chown(path, int(s.account.Uid), int(s.account.Gid))
}

func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as; run this as an ordinary user")
}

// command prepares a server program: as the servers' account, away from the
// terminal's Ctrl-C, and free of the caller's PG* and locale settings.
func command(ctx context.Context, account *syscall.Credential, dir, bin string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account, Setsid: true}
	return cmd
}

// startServer starts a long-running program which writes to dir/log.
func (s *session) startServer(dir, bin string, args ...string) (*server, error) {
	logPath := filepath.Join(dir, "log")
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// A test which restarts the server may want to go on writing here.
	if err := s.handOver(logPath); err != nil {
		return nil, err
	}
	cmd := command(context.Background(), s.account, dir, bin, args...)
	cmd.Stdout, cmd.Stderr = out, out
	// SIGQUIT is PostgreSQL's immediate shutdown: it takes its workers along.
	dieWithParent(cmd.SysProcAttr, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	srv := &server{process: cmd.Process, exited: make(chan struct{}), log: logPath}
	s.servers = append(s.servers, srv)
	go func() {
		cmd.Wait()
		close(srv.exited)
	}()
	return srv, nil
}

// waitReady polls until probe succeeds. srv is nil for a container.
func waitReady(ctx context.Context, srv *server, probe func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var exited chan struct{}
	if srv != nil {
		exited = srv.exited
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-exited:
			return fmt.Errorf("it stopped right after the start; the end of its log:\n%s", tail(srv.log))
		case <-ctx.Done():
			if srv == nil {
				return fmt.Errorf("not ready after %v: %w", startTimeout, err)
			}
			return fmt.Errorf("not ready after %v: %w; the end of its log:\n%s", startTimeout, err, tail(srv.log))
		}
	}
}

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-20):], "\n  ")
}

// freePort stays below the range the system hands to outgoing connections:
// a test may stop the server for a while, and until it is back no client may
// be given its port (or, dialling it, be connected to itself).
func freePort() (string, error) {
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			l.Close()
			return port, nil
		}
	}
	return "", errors.New("found no free port on 127.0.0.1 between 20000 and 29999")
}

// exec runs the caller's command with everything in its environment.
func (s *session) exec(dir string, argv []string, signals <-chan os.Signal) int {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), s.env...)
	if dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			cmd.Env = append(cmd.Env, "PWD="+abs)
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(cmd.SysProcAttr, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		say("cannot run %s: %v; check the command and --dir", argv[0], err)
		return 127
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			// Ctrl-C reaches everybody in the terminal's foreground. Passing it
			// on would deliver it twice, which many programs take for "at once".
			if (sig == syscall.SIGINT || sig == syscall.SIGQUIT) && inForeground() {
				continue
			}
			cmd.Process.Signal(sig)
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return failed(err)
			}
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return exitCodeOf(status.Signal())
			}
			return cmd.ProcessState.ExitCode()
		}
	}
}

// exitCodeOf is the shell's way to say "ended by a signal".
func exitCodeOf(sig os.Signal) int {
	if n, ok := sig.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}
