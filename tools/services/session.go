//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// program is what the command starts by itself.
type program struct {
	variable string // names it
	name     string
	pkg      string // Debian's
	forChaos bool   // only with --pgbouncer
	forBench bool   // only with --load
}

var programs = []program{
	{variable: "TOLLGATE_TEST_NGINX", name: "nginx", pkg: "nginx"},
	{variable: "TOLLGATE_TEST_CADDY", name: "caddy", pkg: "caddy"},
	{variable: "TOLLGATE_TEST_HAPROXY", name: "haproxy", pkg: "haproxy"},
	{variable: "TOLLGATE_TEST_PYTHON", name: "python3", pkg: "python3"},
	{variable: "TOLLGATE_TEST_BASH", name: "bash", pkg: "bash"},
	{variable: "TOLLGATE_TEST_ZSH", name: "zsh", pkg: "zsh"},
	{variable: "TOLLGATE_TEST_FISH", name: "fish", pkg: "fish"},
	{variable: "TOLLGATE_TEST_PGBOUNCER", name: "pgbouncer", pkg: "pgbouncer", forChaos: true},
	{variable: "TOLLGATE_TEST_H2LOAD", name: "h2load", pkg: "nghttp2-client", forBench: true},
	{variable: "TOLLGATE_TEST_WRK", name: "wrk", pkg: "wrk", forBench: true},
}

// session is what one run has found or started.
type session struct {
	containers, install bool // what may be used, and done

	account  *syscall.Credential // whom the servers run as; nil: ourselves
	cleanups []func()

	postgresURL, redisURL string
	env                   []string // for the command
}

func (s *session) start(ctx context.Context) error {
	if err := s.startPostgres(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w; or start Docker or Podman, or set %s=postgres://user:password@host:5432/database", err, postgresEnv)
	}
	if err := s.startRedis(ctx); err != nil {
		return fmt.Errorf("start Redis: %w; or start Docker or Podman, or set %s=redis://host:6379/0", err, redisEnv)
	}
	return nil
}

// findPrograms finds what the command starts by itself, PgBouncer and the load
// generators only if wanted.
func (s *session) findPrograms(ctx context.Context, pgbouncer, load bool) error {
	for _, p := range programs {
		if p.forChaos && !pgbouncer || p.forBench && !load {
			continue
		}
		if err := s.findProgram(p); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (s *session) findProgram(p program) error {
	if given := os.Getenv(p.variable); given != "" {
		if firstProgram(given) == "" {
			return fmt.Errorf("%s=%s is no program that can be run", p.variable, given)
		}
		return nil
	}
	file, err := s.findOrInstall(p.pkg, func() string {
		return firstProgram(p.name, "/usr/sbin/"+p.name, "/opt/homebrew/bin/"+p.name, "/usr/local/bin/"+p.name)
	})
	if err != nil {
		return fmt.Errorf("find %s: %w; or set %s to its path", p.name, err, p.variable)
	}
	s.env = append(s.env, p.variable+"="+file)
	return nil
}

func (s *session) cleanUp() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// privateDir makes a directory for a server's data. PostgreSQL refuses to run
// as root, so root makes it for postgres or nobody, where they can reach it. Its
// path is short, because a Unix socket's must stay below 104 bytes.
func (s *session) privateDir() (string, error) {
	parent := ""
	if os.Geteuid() == 0 {
		parent = "/tmp"
		if err := s.becomeUnprivileged(); err != nil {
			return "", err
		}
	}
	dir, err := os.MkdirTemp(parent, "tollgate-")
	if err != nil {
		return "", err
	}
	s.cleanups = append(s.cleanups, func() {
		if err := os.RemoveAll(dir); err != nil {
			say("%v", err)
		}
	})
	if s.account != nil {
		err = os.Chown(dir, int(s.account.Uid), int(s.account.Gid))
	}
	return dir, err
}

func (s *session) becomeUnprivileged() error {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32) // on Unix they are numbers
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			s.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			return nil
		}
	}
	return errors.New("it does not run as root, and there is no user postgres or nobody: run this as another user")
}

// command prepares a server's program: as the servers' account, out of reach of
// the terminal's Ctrl-C, and free of the caller's PG* variables and locale.
func (s *session) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account, Setsid: true}
	return cmd
}

// output runs a command to its end; an error has what it printed.
func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	return nil
}

// eventually repeats probe until it succeeds, for a minute.
func eventually(ctx context.Context, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := probe(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// freePort stays below the ports that the system gives to outgoing connections:
// while a test has the server stopped, no client may get its port.
func freePort() (string, error) {
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			return port, l.Close()
		}
	}
	return "", errors.New("no free port on 127.0.0.1 between 20000 and 29999")
}

// reachable dials the server that a URL names. Its errors do not show the URL,
// which may have a password.
func reachable(raw, defaultPort string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return errors.New("the URL that is set names no host")
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), defaultPort)), 5*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// firstProgram is the first of these that can be run, or "".
func firstProgram(names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
