//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	postgresEnv   = "TOLLGATE_TEST_POSTGRES_URL"
	postgresImage = "docker.io/library/postgres:17.11-alpine3.23"
)

func (s *session) startPostgres(ctx context.Context) error {
	if s.postgresURL = os.Getenv(postgresEnv); s.postgresURL != "" {
		say("PostgreSQL: using %s", postgresEnv)
		return reachable(s.postgresURL, "5432")
	}
	password := rand.Text()
	address, err := s.runContainer(ctx, postgresImage, "5432",
		[]string{"--env", "POSTGRES_USER=tollgate", "--env", "POSTGRES_PASSWORD=" + password},
		[]string{"-c", "max_connections=300"},
		"pg_isready", "--host=127.0.0.1") // by TCP: while it prepares the database it listens on a socket only
	if err != nil {
		return err
	}
	if address == "" {
		bin, err := s.findOrInstall("postgresql", postgresBin)
		if err != nil {
			return err
		}
		if address, err = s.localPostgres(ctx, bin, password); err != nil {
			return err
		}
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("tollgate", password), Host: address, Path: "/tollgate", RawQuery: "sslmode=disable"}
	s.postgresURL = u.String()
	s.env = append(s.env, postgresEnv+"="+s.postgresURL)
	return nil
}

func (s *session) localPostgres(ctx context.Context, bin, password string) (address string, err error) {
	say("PostgreSQL: starting a private one from %s", bin)
	dir, err := s.privateDir()
	if err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	data, logFile := filepath.Join(dir, "data"), filepath.Join(dir, "log")
	program := func(ctx context.Context, stdin, name string, args ...string) error {
		cmd := s.command(ctx, dir, filepath.Join(bin, name), args...)
		cmd.Stdin = strings.NewReader(stdin)
		return output(cmd)
	}
	// --no-sync is about these files only: the server has fsync on.
	if err := program(ctx, "", "initdb", "-D", data, "-U", "tollgate", "--auth-host=scram-sha-256", "--auth-local=reject", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return "", err
	}
	// Settings in the data directory are there again when a test restarts it.
	if err := program(ctx, fmt.Sprintf(`ALTER USER tollgate PASSWORD '%s';
ALTER SYSTEM SET listen_addresses = '127.0.0.1';
ALTER SYSTEM SET unix_socket_directories = '%s';
ALTER SYSTEM SET port = %s;
ALTER SYSTEM SET max_connections = 300;
CREATE DATABASE tollgate;
`, password, dir, port), "postgres", "--single", "-D", data, "postgres"); err != nil {
		return "", err
	}
	ctx = context.WithoutCancel(ctx) // a start that is broken off may leave the server behind
	s.cleanups = append(s.cleanups, func() {
		// A test may have killed it: only a server that still runs is a failure.
		if err := program(ctx, "", "pg_ctl", "stop", "-D", data, "-m", "immediate"); err != nil && program(ctx, "", "pg_ctl", "status", "-D", data) == nil {
			say("%v", err)
		}
	})
	if err := program(ctx, "", "pg_ctl", "start", "-w", "-D", data, "-l", logFile); err != nil {
		log, _ := os.ReadFile(logFile)
		return "", fmt.Errorf("%w\n%s", err, log)
	}
	s.env = append(s.env, "TOLLGATE_TEST_POSTGRES_BIN="+bin, "TOLLGATE_TEST_POSTGRES_DATA="+data)
	return "127.0.0.1:" + port, nil
}

// postgresBin is the directory with the server's programs: that of PATH, else of
// the newest version.
func postgresBin() string {
	found := []string{firstProgram("pg_ctl")}
	for _, pattern := range []string{"/usr/lib/postgresql/[1-9][0-9]", "/usr/pgsql-[1-9][0-9]", "/opt/homebrew/opt/postgresql@*", "/usr/local/opt/postgresql@*"} {
		paths, _ := filepath.Glob(pattern + "/bin/pg_ctl")
		slices.Reverse(paths)
		found = append(found, paths...)
	}
	for _, path := range found {
		if real, err := filepath.EvalSymlinks(path); path != "" && err == nil {
			return filepath.Dir(real)
		}
	}
	return ""
}
