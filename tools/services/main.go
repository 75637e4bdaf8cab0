//go:build unix

// Command services starts a private PostgreSQL and Redis for a test run (exec)
// or for trying things (up), and removes them at the end. For a test run it also
// finds the programs that tests start by themselves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
)

const usage = `services starts a private PostgreSQL and Redis and removes them at the end.

  go run -C tools ./services exec [--dir DIR] [--pgbouncer] [--load] [--local] [--no-install] -- CMD [ARG...]
      Run CMD with TOLLGATE_TEST_POSTGRES_URL and TOLLGATE_TEST_REDIS_URL set,
      and the paths of nginx, Caddy, HAProxy, Python, bash, zsh and fish in
      TOLLGATE_TEST_NGINX, _CADDY, _HAPROXY, _PYTHON, _BASH, _ZSH and _FISH, and
      exit with its status (go run itself exits with 1 then).

  go run -C tools ./services up [--local] [--no-install]
      Print the two URLs as shell exports and stay until Ctrl-C.

  --dir DIR      run CMD in DIR
  --pgbouncer    find PgBouncer, too, for CMD to start: TOLLGATE_TEST_PGBOUNCER
  --load         find the load generators h2load and wrk, too: TOLLGATE_TEST_H2LOAD
                 and _WRK
  --local        start no containers
  --no-install   never install packages

PostgreSQL and Redis are the first of these that works:

  1. the one that TOLLGATE_TEST_POSTGRES_URL or TOLLGATE_TEST_REDIS_URL names
  2. a container in Docker or Podman, where one of them runs
  3. a private one from local programs: PATH, /usr/lib/postgresql, Homebrew
  4. the same after installing Debian's packages postgresql and redis-server, as
     root or with passwordless sudo; their own services stay off

The other programs are what their variables name, else local ones, else those of
Debian's packages, whose services stay off, too. CMD starts them.

A PostgreSQL from local programs also sets TOLLGATE_TEST_POSTGRES_BIN (the
directory with pg_ctl) and TOLLGATE_TEST_POSTGRES_DATA (the data directory), so
that a test can kill and restart it as the owner of that directory.
`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("services", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("dir", "", "")
	pgbouncer := flags.Bool("pgbouncer", false, "")
	load := flags.Bool("load", false, "")
	local := flags.Bool("local", false, "")
	noInstall := flags.Bool("no-install", false, "")
	valid := len(args) > 0 && flags.Parse(args[1:]) == nil &&
		(args[0] == "exec" && flags.NArg() > 0 || args[0] == "up" && flags.NArg() == 0)
	if !valid {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}

	signals := slices.DeleteFunc([]os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop() // after the clean-up, which a second Ctrl-C must not end
	s := &session{containers: !*local, install: !*noInstall}
	defer s.cleanUp()
	err := s.start(ctx)
	if err == nil && args[0] == "exec" {
		err = s.findPrograms(ctx, *pgbouncer, *load)
	}
	switch {
	case ctx.Err() != nil:
		say("stopped while starting")
		return 130
	case err != nil:
		say("%v", err)
		return 1
	case args[0] == "exec":
		return s.exec(*dir, flags.Args())
	}
	fmt.Printf("export TOLLGATE_DATABASE_URL='%s'\nexport TOLLGATE_REDIS_URL='%s'\n", s.postgresURL, s.redisURL)
	say("ready: paste these two lines into another terminal; Ctrl-C here stops what was started")
	<-ctx.Done()
	return 0
}

// exec runs the caller's command. A terminal sends its Ctrl-C to the command,
// too, so only the other signals are passed on.
func (s *session) exec(dir string, argv []string) int {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), s.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		say("run %s: %v", argv[0], err)
		return 127
	}
	go func() {
		for sig := range signals {
			cmd.Process.Signal(sig)
		}
	}()
	err := cmd.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		say("run %s: %v", argv[0], err)
	}
	return cmd.ProcessState.ExitCode()
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "services: "+format+"\n", args...)
}
