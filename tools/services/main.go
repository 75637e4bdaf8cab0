//go:build unix

// Command services brings up a real PostgreSQL and a real Redis, for a test
// run (exec) or to try things against (up), and takes them away again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

const usage = `services brings up a private PostgreSQL and Redis and removes them again.

Usage, from the tools folder:

  go run ./services exec [--dir DIR] [--fast] [--pgbouncer] [--no-install] -- CMD [ARG...]
      Run CMD with TOLLGATE_TEST_POSTGRES_URL and TOLLGATE_TEST_REDIS_URL set,
      and exit with its exit code.

  go run ./services up [--fast] [--no-install]
      Print the two URLs as shell exports and stay until Ctrl-C.

Flags:

  --dir DIR      run CMD in DIR instead of the current folder
  --fast         PostgreSQL stops waiting for the disk (fsync=off): quicker,
                 but not for tests of what survives a crash
  --pgbouncer    find PgBouncer too, or install it as in 4, for CMD to start:
                 TOLLGATE_TEST_PGBOUNCER names the program
  --no-install   never install packages

Each of the two comes from the first of these that works:

  1. TOLLGATE_TEST_POSTGRES_URL or TOLLGATE_TEST_REDIS_URL, when already set;
     it must be reachable, and is left running afterwards
  2. a container (postgres:17.11-alpine3.23, redis:7.4.11-alpine3.21) in Docker or Podman
  3. binaries on this machine: PATH, /usr/lib/postgresql, Homebrew
  4. Debian and Ubuntu, as root or with passwordless sudo: the packages
     postgresql and redis-server are installed, their own services stay off

A PostgreSQL from 3 or 4 also sets TOLLGATE_TEST_POSTGRES_BIN (the folder with
pg_ctl) and TOLLGATE_TEST_POSTGRES_DATA (the data folder), so that a test can
kill it and start it again on the same port. It runs as the owner of the data
folder, and so must pg_ctl.

Examples:

  go run -C tools ./services exec --dir "$PWD" -- go test ./...
  go run -C tools ./services exec -- sh -c 'psql "$TOLLGATE_TEST_POSTGRES_URL"'

go run itself exits with 1 whenever CMD fails; where the exact code counts,
build first: go build -C tools -o /tmp/services ./services
`

// The kernel ties "kill this child when its parent dies" to the thread which
// started the child, so everything is started from the main thread, which
// lasts as long as the process.
func init() { runtime.LockOSThread() }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "exec", "up":
	case keeperVerb:
		return keep(os.Stdin)
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return 0
	default:
		return misuse("unknown command %q", verb)
	}

	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("dir", "", "")
	fast := flags.Bool("fast", false, "")
	pgbouncer := flags.Bool("pgbouncer", false, "")
	noInstall := flags.Bool("no-install", false, "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return 0
	} else if err != nil {
		return misuse("%v", err)
	}
	switch {
	case verb == "exec" && flags.NArg() == 0:
		return misuse("exec needs a command to run: services exec -- go test ./...")
	case verb == "up" && flags.NArg() > 0:
		return misuse("up takes no arguments; to run a command use: services exec -- %s", strings.Join(flags.Args(), " "))
	case verb == "up" && (*dir != "" || *pgbouncer):
		return misuse("--dir and --pgbouncer belong to exec")
	}

	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) { // nohup and background jobs ignore some on purpose
			signal.Notify(signals, s)
		}
	}
	followGoRun()

	s, err := newSession(*fast, !*noInstall)
	if err != nil {
		return failed(err)
	}
	defer s.close()

	if stopped, err := s.start(signals, *pgbouncer); stopped != nil {
		say("stopped while starting")
		return exitCodeOf(stopped)
	} else if err != nil {
		return failed(err)
	}

	if verb == "exec" {
		return s.exec(*dir, flags.Args(), signals)
	}
	fmt.Printf("export TOLLGATE_DATABASE_URL='%s'\n", s.postgresURL)
	fmt.Printf("export TOLLGATE_REDIS_URL='%s'\n", s.redisURL)
	say("ready; paste these two lines into another terminal, Ctrl-C here stops what was started")
	<-signals
	say("stopping")
	return 0
}

// start brings up both backends, and finds PgBouncer if it is asked to. A signal
// stops it midway and is returned.
func (s *session) start(signals <-chan os.Signal, pgbouncer bool) (stopped os.Signal, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := make(chan struct{})
	watched := make(chan os.Signal, 1)
	go func() {
		defer close(watched)
		select {
		case sig := <-signals:
			watched <- sig
			cancel()
		case <-started:
		}
	}()
	if err = s.startPostgres(ctx); err == nil {
		err = s.startRedis(ctx)
	}
	if err == nil && pgbouncer {
		err = s.findPgbouncer(ctx)
	}
	close(started)
	return <-watched, err
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "services: "+format+"\n", args...)
}

func failed(err error) int {
	say("%v", err)
	return 1
}

func misuse(format string, args ...any) int {
	say(format, args...)
	say("for help: services --help")
	return 2
}
