package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
	"google.golang.org/protobuf/proto"
)

// confirmed is for commands that take something away: they say what, and ask.
type confirmed struct {
	Yes bool `help:"Do it without asking, for scripts."`
}

var errNotConfirmed = errors.New("nothing was changed")

// confirm says what a command will do and asks whether to do it. Without a terminal it
// takes --yes.
func (c confirmed) confirm(ctx context.Context, e *env, format string, args ...any) error {
	what := terminal.Lines(fmt.Sprintf(format, args...))
	switch {
	case c.Yes:
		return nil
	case !e.prompt.Interactive():
		return fmt.Errorf("this would: %s; repeat it with --yes to do so", what)
	}
	answer, err := e.prompt.Line(ctx, what+"\nDo it? [y/N] ")
	if err != nil {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errNotConfirmed
	}
	return nil
}

// count is a number of things: 1 user, 2 users.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// edit has a person change a message as YAML in $VISUAL or $EDITOR, again while it is
// wrong. It returns false when nothing was changed. The message is changed in place.
func (e *env) edit(ctx context.Context, what string, m proto.Message) (bool, error) {
	if !e.prompt.Interactive() {
		return false, errors.New("give at least one flag that says what to change; without one, an editor opens, which takes a terminal")
	}
	text, err := protoyaml.Encode(protoyaml.Node(m.ProtoReflect()))
	if err != nil {
		return false, err
	}
	text = append([]byte("# "+what+". Save and quit to go on; an empty file changes nothing.\n"), text...)
	dir, err := os.MkdirTemp("", "tollgate-") // mode 0700
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "edit.yaml")
	for {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return false, err
		}
		if err := runEditor(ctx, file); err != nil {
			return false, err
		}
		edited, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(string(edited)) == "" || string(edited) == string(text) {
			return false, nil
		}
		next, wrong := readMessage(edited, m)
		if wrong == nil {
			proto.Reset(m)
			proto.Merge(m, next)
			return true, nil
		}
		e.say("%v", wrong)
		if answer, err := e.prompt.Line(ctx, "Edit again? [Y/n] "); err != nil || strings.HasPrefix(strings.ToLower(answer), "n") {
			return false, errors.Join(err, errNotConfirmed)
		}
		text = edited
	}
}

// readMessage reads a message of the type of like.
func readMessage(text []byte, like proto.Message) (proto.Message, error) {
	var r protoyaml.Reader
	next := like.ProtoReflect().New()
	if root := r.Document(text); root != nil {
		r.Message(root, "", next)
	}
	return next.Interface(), r.Err("edit.yaml")
}

// runEditor runs the editor through the shell, because $EDITOR may have arguments.
func runEditor(ctx context.Context, file string) error {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	command := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", file) //nolint:gosec // it is the user's own
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("the editor %q: %w", editor, err)
	}
	return nil
}
