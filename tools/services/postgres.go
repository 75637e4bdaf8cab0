//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	postgresEnv   = "TOLLGATE_TEST_POSTGRES_URL"
	postgresImage = "docker.io/library/postgres:17.11-alpine3.23"
)

func (s *session) startPostgres(ctx context.Context) error {
	if given := os.Getenv(postgresEnv); given != "" {
		if err := reachable(given); err != nil {
			return fmt.Errorf("%s is set, but its server cannot be reached: %w; start that server, or unset the variable to have one started", postgresEnv, err)
		}
		say("PostgreSQL: using %s", postgresEnv)
		s.postgresURL = given
		return nil
	}

	password := rand.Text()
	addr, err := s.runContainer(ctx, "PostgreSQL", postgresImage, "5432",
		[]string{"POSTGRES_USER=tollgate", "POSTGRES_PASSWORD=" + password, "TZ=UTC"},
		s.postgresSettings(), postgresReady)
	if err == nil {
		s.usePostgres(addr, password)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.Is(err, errNoEngine) {
		say("PostgreSQL: no container, trying other ways: %v", err)
	}

	bin := postgresBin()
	if bin == "" {
		if err := s.installPackage(ctx, "postgresql"); err != nil {
			return fmt.Errorf("no PostgreSQL: found no working container engine and no local server, and %w\n"+
				"Do one of these:\n"+
				"  start Docker or Podman\n"+
				"  install PostgreSQL (macOS: brew install postgresql; Fedora: dnf install postgresql-server; Debian: apt-get install postgresql)\n"+
				"  set %s=postgres://user:password@host:5432/database", err, postgresEnv)
		}
		if bin = postgresBin(); bin == "" {
			return fmt.Errorf("the package postgresql is installed, but no folder has postgres, initdb and pg_ctl; set %s to a server of yours", postgresEnv)
		}
	}
	if err := s.localPostgres(ctx, bin, password); err != nil {
		return fmt.Errorf("start PostgreSQL from %s: %w", bin, err)
	}
	return nil
}

func (s *session) usePostgres(addr, password string) {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("tollgate", password), Host: addr, Path: "/tollgate", RawQuery: "sslmode=disable"}
	s.postgresURL = u.String()
	s.env = append(s.env, postgresEnv+"="+s.postgresURL)
}

func (s *session) postgresSettings() []string {
	settings := []string{"-c", "max_connections=300"}
	if s.fast {
		settings = append(settings, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	return settings
}

func (s *session) localPostgres(ctx context.Context, bin, password string) error {
	dir, err := s.privateDir("pg")
	if err != nil {
		return err
	}
	say("PostgreSQL: starting a private one from %s", bin)
	data := filepath.Join(dir, "data")
	passwordFile := filepath.Join(dir, "password")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.handOver(passwordFile); err != nil {
		return err
	}
	s.keeper.add("postgres", bin, data)
	// --no-sync only skips flushing the new files; the server has fsync on.
	err = s.runTool(ctx, dir, "", filepath.Join(bin, "initdb"), "-D", data, "-U", "tollgate",
		"--auth=scram-sha-256", "--pwfile="+passwordFile, "-E", "UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	if err := os.Remove(passwordFile); err != nil {
		return err
	}
	err = s.runTool(ctx, dir, "CREATE DATABASE tollgate;\n", filepath.Join(bin, "postgres"), "--single", "-D", data, "postgres")
	if err != nil {
		return err
	}

	port, err := freePort()
	if err != nil {
		return err
	}
	// In the file rather than on the command line, so that pg_ctl start brings
	// the same server back after a test has killed it.
	settings := []string{"-c", "listen_addresses=127.0.0.1", "-c", "port=" + port, "-c", "unix_socket_directories=" + dir}
	settings = append(settings, s.postgresSettings()...)
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for i := 1; i < len(settings); i += 2 {
		name, value, _ := strings.Cut(settings[i], "=")
		fmt.Fprintf(f, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	if err := f.Close(); err != nil {
		return err
	}

	srv, err := s.startServer(dir, filepath.Join(bin, "postgres"), "-D", data)
	if err != nil {
		return err
	}
	addr := "127.0.0.1:" + port
	if err := waitReady(ctx, srv, func() error { return postgresReady(addr) }); err != nil {
		return err
	}
	s.usePostgres(addr, password)
	s.env = append(s.env, "TOLLGATE_TEST_POSTGRES_BIN="+bin, "TOLLGATE_TEST_POSTGRES_DATA="+data)
	return nil
}

// runTool runs a short-lived program as the servers' account.
func (s *session) runTool(ctx context.Context, dir, stdin, bin string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cmd := command(ctx, s.account, dir, bin, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(bin), err, out)
	}
	return nil
}

// postgresBin is the folder with the server's programs, "" for none: the one
// on PATH, else the newest version known to packagers.
func postgresBin() string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, newestFirst(pattern, found)...)
	}
	for _, dir := range dirs {
		if complete(dir) {
			return dir
		}
	}
	return ""
}

func complete(dir string) bool {
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// newestFirst sorts by the number in place of the pattern's star, as numbers:
// 17, 9.6, "latest".
func newestFirst(pattern string, dirs []string) []string {
	before, after, _ := strings.Cut(pattern, "*")
	version := func(dir string) float64 {
		v, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimPrefix(dir, before), after), 64)
		if err != nil {
			return -1
		}
		return v
	}
	sorted := slices.Clone(dirs)
	slices.SortStableFunc(sorted, func(a, b string) int {
		switch va, vb := version(a), version(b); {
		case va > vb:
			return -1
		case va < vb:
			return 1
		}
		return 0
	})
	return sorted
}

// postgresReady opens a session as far as the password question. A server
// which is still starting up, or a container's port proxy with nobody behind
// it, accepts the connection but does not ask.
func postgresReady(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	body := binary.BigEndian.AppendUint32(nil, 3<<16) // protocol 3.0
	body = append(body, "user\x00tollgate\x00database\x00tollgate\x00\x00"...)
	hello := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	if _, err := conn.Write(append(hello, body...)); err != nil {
		return err
	}
	answer := make([]byte, 512)
	n, err := io.ReadAtLeast(conn, answer, 1)
	if err != nil {
		return err
	}
	if answer[0] != 'R' {
		return fmt.Errorf("the server answers %q", bytes.Trim(answer[:n], "\x00"))
	}
	return nil
}

// reachable dials the server a postgres:// URL points to.
func reachable(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return errors.New("it must look like postgres://user:password@host:5432/database") // without the password in it
	}
	port := cmp.Or(u.Query().Get("port"), u.Port(), "5432")
	host := cmp.Or(u.Query().Get("host"), u.Hostname(), "localhost")
	network, addr := "tcp", net.JoinHostPort(host, port)
	if strings.HasPrefix(host, "/") {
		network, addr = "unix", filepath.Join(host, ".s.PGSQL."+port)
	}
	conn, err := net.DialTimeout(network, addr, 5*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}
