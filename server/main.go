// Command tollgate is the server, an access-control plane that decides who is
// calling, what they may do and how often, and keeps a record of it; and its client.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/cli"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
)

const description = `Tollgate answers four questions before a request gets through: who is this, may they, how often, and what happened.

Without a command it serves the API on http://127.0.0.1:8000 and keeps its data in tollgate.db, a SQLite file that it creates. Every flag can be set by an environment variable instead. A secret can also be read from a file: set the variable with _FILE appended to the file's path.

The client's commands call a server, as the user who signed in: tollgate login admin.`

// version is set when a release is built: -ldflags "-X main.version=…".
var version string

type commands struct {
	app.Config

	Serve       serve       `cmd:"" default:"1" help:"Serve the API (the default)."`
	Migrate     migrate     `cmd:"" help:"Show the database's schema or change it."`
	Recover     recovery    `cmd:"" help:"Work on the database when nobody can sign in: reset passwords, create administrators, remove limits that refuse everyone."`
	SigningKeys signingKeys `cmd:"" help:"List, rotate and remove signing keys in the database, and change the master key that seals them."`
	AuditVerify auditVerify `cmd:"" name:"audit-verify" hidden:"" help:"Check that nothing in the audit log in the database was edited, deleted, reordered or cut off."`
	Policy      policy      `cmd:"" help:"Test a policy: its roles and conditions against cases of who may do what."`
	Health      health      `cmd:"" help:"Check whether the server at the listen address is ready: exit status 0 or 1."`

	Help    help         `cmd:"" help:"Show the help of a command: tollgate help recover user create."`
	Version printVersion `cmd:"" name:"version" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" help:"Print the version and exit."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	c.Config.Version = buildVersion()
	parser := kong.Must(&c, append(serverOptions(c.Config.Version), kong.BindTo(ctx, (*context.Context)(nil)))...)
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "help" {
		args = append(slices.Clone(args[1:]), "--help")
	}
	first := cli.First(args, append(cli.Model().Flags, parser.Model.Flags...)...)
	if err := moved(args, first); err != nil {
		fmt.Fprintln(os.Stderr, "tollgate: "+err.Error())
		os.Exit(1)
	}
	onDatabase, verifies := verifyOnDatabase(args, first)
	if verifies {
		args = onDatabase
	} else if slices.Contains(cli.Names(), first) {
		os.Exit(cli.Run(ctx, args, parser.Model, kong.Resolvers(kong.ResolverFunc(secretFile))))
	}
	parsed, err := parser.Parse(keyIDsLast(args))
	if err != nil && verifies {
		fmt.Fprintf(os.Stderr, "tollgate: %v; see tollgate audit verify --help\n", err)
		os.Exit(exitUnverified)
	}
	parser.FatalIfErrorf(err)
	out := newOut(c.Config)
	redis.SetLogger(redisLog{out.Log})
	if err := parsed.Run(c.Config, out); err != nil {
		fmt.Fprintln(os.Stderr, "tollgate: "+userMessage(err))
		os.Exit(status(err))
	}
}

// serverOptions are what the command line of the server is made with.
func serverOptions(version string) []kong.Option {
	return append(cli.Listed("client"), []kong.Option{
		kong.Name("tollgate"), kong.Description(description), kong.ShortUsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}), kong.Help(printHelp),
		kong.ExplicitGroups([]kong.Group{{Key: "client", Title: "Commands that call a server:"}}),
		kong.Resolvers(kong.ResolverFunc(secretFile)), kong.Vars{"version": version},
	}...)
}

// printHelp shows the first words of all commands, and all of a command's own.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	options.NoExpandSubcommands = ctx.Selected() == nil
	return kong.DefaultHelpPrinter(options, ctx)
}

// status is the exit status for an error.
func status(err error) int {
	if e, ok := errors.AsType[exit](err); ok {
		return e.status
	}
	if e, ok := errors.AsType[interface {
		error
		ExitStatus() int
	}](err); ok {
		return e.ExitStatus()
	}
	return 1
}

// buildVersion is the release, or else the commit that the program was built
// from.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// userMessage returns the text of an error for the terminal: the message with
// its cause, without the kind and reason that are for API clients.
func userMessage(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Cause == nil {
		return strings.Replace(err.Error(), f.Error(), f.Message, 1)
	}
	return err.Error()
}

// newOut writes the log to standard error, as text on a terminal and as JSON
// elsewhere, and messages for the operator to standard output.
func newOut(c app.Config) app.Out {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // kong has checked it
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, options)
	if c.LogFormat == "text" || c.LogFormat == "auto" && isTerminal(os.Stderr) {
		options.ReplaceAttr = shortTime
		handler = slog.NewTextHandler(os.Stderr, options)
	}
	return app.Out{Stdout: os.Stdout, Log: slog.New(handler), Terminal: isTerminal(os.Stdout)}
}

// redisLog writes the lines of the Redis client to our log.
type redisLog struct{ log *slog.Logger }

// Printf implements the interface of redis.SetLogger.
func (r redisLog) Printf(ctx context.Context, format string, args ...any) {
	r.log.WarnContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

func shortTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		a.Value = slog.StringValue(a.Value.Time().Format("15:04:05.000"))
	}
	return a
}

type help struct {
	Command []string `arg:"" optional:"" help:"The command; all of them when none is given."`
}

// Run prints what --help after the command prints, and ends the program.
func (h help) Run(parsed *kong.Context) error {
	_, err := parsed.Kong.Parse(append(h.Command, "--help"))
	return err
}

type printVersion struct{}

func (printVersion) Run(config app.Config) error {
	_, err := fmt.Println(config.Version)
	return err
}

type serve struct{}

// Run serves until Ctrl-C or SIGTERM.
func (serve) Run(ctx context.Context, config app.Config, out app.Out) (err error) {
	if err := limitMemory(config.MemoryLimit, out.Log); err != nil {
		return err
	}
	listener, err := app.Listen(config, clock.Real(), out.Log)
	if err != nil {
		return err
	}
	defer listener.Close()
	grpc, err := app.ListenGRPC(config, clock.Real(), out.Log)
	if err != nil {
		return err
	}
	if grpc != nil {
		defer grpc.Close()
	}
	front, err := app.ListenGateway(config, clock.Real(), out.Log)
	if err != nil {
		return err
	}
	if front != nil {
		defer front.Close()
	}
	// Before the first administrator is created, whose password is shown once: a
	// start that fails for a taken address must not use it up.
	var metrics net.Listener
	if config.MetricsListen != "" {
		if metrics, err = net.Listen("tcp", config.MetricsListen); err != nil {
			return fmt.Errorf("listen for metrics: %w; choose another address with --metrics-listen, or none", err)
		}
		defer metrics.Close()
	}
	a, err := app.Open(ctx, config, clock.Real(), out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	password, err := a.BootstrapAdmin(ctx)
	if err != nil {
		return err
	}
	var side errgroup.Group
	if metrics != nil {
		side.Go(func() error { return a.ServeMetrics(ctx, metrics) })
	}
	on := app.Listeners{API: listener, GRPC: grpc, Gateway: front}
	a.PrintWelcome(on.Addresses(), password)
	out.Log.Info("serving", append([]any{"address", listener.Addr().String()}, config.Summary()...)...)
	if grpc != nil {
		out.Log.Info("the gRPC port is serving", "address", grpc.Addr().String())
	}
	if front != nil {
		out.Log.Info("the gateway is serving", "address", front.Addr().String())
	}
	if err := a.Serve(ctx, on); err != nil {
		return err
	}
	out.Log.Info("stopped")
	return side.Wait()
}
