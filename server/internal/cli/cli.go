// Package cli is the command line's client: what a person or a script does on a server
// over its API. It never opens the database; the commands that do are in package main.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
)

// Commands are the client's commands.
type Commands struct {
	Login    login    `cmd:"" help:"Sign in to a server, and keep the session for the next commands."`
	Logout   logout   `cmd:"" help:"End the session at the server and forget it."`
	WhoAmI   whoAmI   `cmd:"" name:"whoami" help:"Show who you are at the server, and what you may do."`
	Password password `cmd:"" help:"Change your own password."`
	Profiles profiles `cmd:"" help:"Show the servers that you are signed in to, and choose one."`
	Can      can      `cmd:"" help:"Ask whether a user may do something, and why. Exit status 0: yes; 1: no; 2: it could not be asked."`

	Users    users    `cmd:"" help:"People and service accounts."`
	Roles    roles    `cmd:"" help:"Roles, and who holds them."`
	Keys     keys     `cmd:"" help:"API keys. (Keys that sign tokens: tollgate signing-keys.)"`
	Sessions sessions `cmd:"" help:"Where users are signed in."`
	Limits   limits   `cmd:"" help:"How often, for whom."`
	Routes   routes   `cmd:"" help:"What requests to protected services need."`
	Audit    audit    `cmd:"" help:"What happened."`

	Export export `cmd:"" help:"Write roles, limits, routes and recordings as a file."`
	Plan   plan   `cmd:"" help:"Say what a file would change. Exit status 0: nothing; 2: something; 1: it could not be found out."`
	Apply  apply  `cmd:"" help:"Make the server what a file says."`
	Schema schema `cmd:"" help:"Print the JSON schema of such files, for editors."`

	Completion completion `cmd:"" help:"Print the script that completes commands in bash, zsh or fish."`

	CompleteWords completeWords `cmd:"" name:"__complete" hidden:"" help:"Complete a command line, for the scripts of tollgate completion."`
}

// Connection says which server is called, and as whom.
type Connection struct {
	URL       string `name:"url" help:"The server. Default: that of the profile, else http://127.0.0.1:8000." env:"TOLLGATE_URL" placeholder:"URL"`
	Profile   string `help:"Name of the sign-in to use, for several servers or users. Default: the one chosen with tollgate profiles use, else default." env:"TOLLGATE_PROFILE" placeholder:"NAME"`
	APIKey    string `name:"api-key" help:"Call with this API key rather than as who is signed in. Better in the variable, or in a file that TOLLGATE_API_KEY_FILE names: other users of this machine can see flags." env:"TOLLGATE_API_KEY" secret:"true" placeholder:"KEY"`
	AllowHTTP bool   `name:"allow-http" help:"Send credentials without TLS to another machine. Whoever is on the way can read them." env:"TOLLGATE_ALLOW_HTTP"`
	Output    string `short:"o" help:"table, json (what the API answers) or yaml." enum:"table,json,yaml" default:"table" placeholder:"FORMAT"`
}

// program is the client's command line.
type program struct {
	Connection
	Commands
}

// env is what a command works with.
type env struct {
	Connection

	prompt *terminal.Prompt
	out    io.Writer
	err    io.Writer
	store  store
	now    func() time.Time
}

// say tells a person what was done, on standard error: standard output is what was
// asked for.
func (e *env) say(format string, args ...any) {
	fmt.Fprintln(e.err, terminal.Lines(fmt.Sprintf(format, args...)))
}

// The exit statuses, besides those of can and plan.
const (
	exitError       = 1
	exitInterrupted = 130 // as shells have it for Ctrl-C
)

// exit is an error that ends the program with a status of its own. Without a text
// nothing is printed.
type exit struct {
	error

	status int
}

func (e exit) Unwrap() error { return e.error }

// ExitStatus is the program's exit status, for commands that share the client's errors.
func (e exit) ExitStatus() int { return e.status }

// Run runs a client's command and returns its exit status. The options are those that
// the program's other commands have, too.
func Run(ctx context.Context, args []string, whole *kong.Application, options ...kong.Option) int {
	var p program
	parser := kong.Must(&p, append(slices.Clone(options), kong.Name("tollgate"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.BindTo(ctx, (*context.Context)(nil)))...)
	parsed, err := parser.Parse(args)
	if err != nil {
		return fail(ctx, usageError(err))
	}
	e := &env{
		Connection: p.Connection, prompt: terminal.NewPrompt(os.Stdin, os.Stderr), out: os.Stdout, err: os.Stderr, store: newStore(), now: time.Now,
	}
	return fail(ctx, parsed.Run(e, whole))
}

// fail prints an error and returns the exit status.
func fail(ctx context.Context, err error) int {
	var own exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own) && own.error == nil:
		return own.status
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "tollgate: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(os.Stderr, "tollgate: "+terminal.Lines(explain(err)))
	if own.error != nil {
		return own.status
	}
	return exitError
}

// usageError says what is wrong with the arguments, and where help is. can and verify
// keep their status 1 for no.
func usageError(err error) error {
	var wrong *kong.ParseError
	if !errors.As(err, &wrong) {
		return err
	}
	command, status := "tollgate", exitError
	if node := wrong.Context.Selected(); node != nil {
		command = node.FullPath()
		if node.Name == "can" || node.Name == "verify" {
			status = exitUnasked
		}
	}
	return exit{fmt.Errorf("%w; see %s --help", err, command), status}
}

const description = `The client's commands work on a server over its API, as the user who signed in:

    tollgate login admin --url https://tollgate.example.com
    tollgate can mia orders:read orders/7`

// Model is the client's command line.
func Model() *kong.Application { return kong.Must(&program{}, kong.Name("tollgate")).Model }

// Names are the words that begin a client's command.
func Names() []string {
	var names []string
	for _, node := range Model().Children {
		names = append(names, node.Name)
	}
	return names
}

// Listed lists the client's commands in the help of another command line, which does
// not run them: it may have flags of the same names.
func Listed(group string) (options []kong.Option) {
	for _, node := range Model().Children {
		if !node.Hidden {
			options = append(options, kong.DynamicCommand(node.Name, node.Help, group, &struct{}{}))
		}
	}
	return options
}

// First is the first word of a command line that is none of these flags and none of
// their values, empty when there is none.
func First(args []string, flags ...*kong.Flag) string {
	takesValue := map[string]bool{}
	for _, f := range flags {
		valued := !f.IsBool() && !f.IsCounter()
		takesValue["--"+f.Name] = valued
		for _, alias := range f.Aliases {
			takesValue["--"+alias] = valued
		}
		if f.Short != 0 {
			takesValue["-"+string(f.Short)] = valued
		}
	}
	for i := 0; i < len(args); i++ {
		switch {
		case takesValue[args[i]]:
			i++
		case !strings.HasPrefix(args[i], "-"):
			return args[i]
		}
	}
	return ""
}
