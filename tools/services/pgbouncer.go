//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

const pgbouncerEnv = "TOLLGATE_TEST_PGBOUNCER"

// findPgbouncer has the command told where PgBouncer is, which it starts itself.
// The package is installed where there is none.
func (s *session) findPgbouncer(ctx context.Context) error {
	if given := os.Getenv(pgbouncerEnv); given != "" {
		if _, err := exec.LookPath(given); err != nil {
			return fmt.Errorf("%s is set, but there is no such program: %w; correct it, or unset it to have one found or installed", pgbouncerEnv, err)
		}
		say("PgBouncer: using %s", pgbouncerEnv)
		return nil
	}
	bin := pgbouncerBin()
	if bin == "" {
		if err := s.installPackage(ctx, "pgbouncer"); err != nil {
			return fmt.Errorf("no PgBouncer on PATH, and %w; install it, or name the program in %s", err, pgbouncerEnv)
		}
		if bin = pgbouncerBin(); bin == "" {
			return fmt.Errorf("the package pgbouncer is installed, but there is no such program; name it in %s", pgbouncerEnv)
		}
	}
	say("PgBouncer: %s", bin)
	s.env = append(s.env, pgbouncerEnv+"="+bin)
	return nil
}

func pgbouncerBin() string {
	for _, name := range []string{
		"pgbouncer",
		"/usr/sbin/pgbouncer", // Debian's, which is not on everybody's PATH
		"/opt/homebrew/bin/pgbouncer",
		"/usr/local/bin/pgbouncer",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
