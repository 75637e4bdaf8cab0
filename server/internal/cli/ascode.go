package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/cli/access"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
)

// exitChanges is the exit status of a plan that would change something.
const exitChanges = 2

func (e *env) access() (*access.Server, error) {
	server, err := e.connect()
	if err != nil {
		return nil, err
	}
	return &access.Server{Auth: server.auth, Roles: server.roles, Limits: server.limits, Routes: server.routes, Audit: server.audit}, nil
}

type export struct {
	Assignments bool `help:"Also who holds which role, by user name."`
}

func (export) Help() string {
	return `Writes the server's roles, limits, routes and recordings as YAML, for tollgate plan and apply. It has no secrets and no users; the roles that came with Tollgate, which cannot be changed, are left out.

    tollgate export > access.yaml`
}

func (x export) Run(ctx context.Context, e *env) error {
	server, err := e.access()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(e.out)
	if err := access.Export(ctx, server, out, x.Assignments); err != nil {
		return err
	}
	return out.Flush()
}

// files are the files of plan and apply.
type files struct {
	File  []string `short:"f" required:"" help:"A file, or a folder with files that end in .yaml or .yml; - is standard input. Repeat the flag for more: together they are one." placeholder:"FILE"`
	Prune bool     `help:"Also remove what the files leave out, in the sections that they have. What came with Tollgate stays; of assignments, only those of users in the files are removed."`
}

// read reads all files as one.
func (f files) read() (*access.File, error) {
	reader := access.NewReader()
	var wrong []error
	for _, name := range f.File {
		names, err := inFolder(name)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := readFile(name)
			if err != nil {
				return nil, err
			}
			wrong = append(wrong, reader.Read(name, text))
		}
	}
	return reader.File(), errors.Join(wrong...)
}

// inFolder are the YAML files in a folder and below, sorted; or the file itself.
func inFolder(name string) (names []string, err error) {
	info, err := os.Stat(name)
	if name == "-" || err == nil && !info.IsDir() {
		return []string{name}, nil
	} else if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && entry.Type().IsRegular() && (ext == ".yaml" || ext == ".yml") {
			names = append(names, path)
		}
		return err
	})
	slices.Sort(names)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("there is no file that ends in .yaml or .yml in %s", name)
	}
	return names, err
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, access.MaxFile+1))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, access.MaxFile+1))
}

// plan is the plan of the files.
func (f files) plan(ctx context.Context, e *env) (*access.Server, []access.Step, error) {
	file, err := f.read()
	if err != nil {
		return nil, nil, err
	}
	server, err := e.access()
	if err != nil {
		return nil, nil, err
	}
	steps, err := access.Plan(ctx, server, file, f.Prune)
	return server, steps, err
}

type plan struct{ files }

func (plan) Help() string {
	return `Says what tollgate apply would change: + is created, ~ changed, - removed. Exit status 0: nothing; 2: something; 1: it could not be found out.

    tollgate plan -f access.yaml

-o json has each change with its action (create, change or remove), its kind and name, the object before and after as the API has it, and the fields that differ.`
}

func (p plan) Run(ctx context.Context, e *env) error {
	_, steps, err := p.plan(ctx, e)
	if err != nil {
		return err
	}
	if err := p.tell(e, steps); err != nil {
		return err
	}
	if len(steps) > 0 {
		return exit{nil, exitChanges}
	}
	return nil
}

func (plan) tell(e *env, steps []access.Step) error {
	if e.Output == "table" {
		return access.Describe(e.out, steps)
	}
	text, err := encodePlan(steps)
	if err != nil {
		return err
	}
	return e.text(text)
}

type apply struct {
	files
	confirmed
}

func (apply) Help() string {
	return `Makes the server what the files say, object by object, each in one transaction. When it is interrupted, even by kill -9, every object is as it was or as it should be; run it again for the rest. It changes nothing that the files do not name, unless --prune is given, which asks first.

Of two that run at once the last one wins, object by object; one that finds an object changed since it looked stops and says so.

    tollgate apply -f access.yaml`
}

func (a apply) Run(ctx context.Context, e *env) error {
	server, steps, err := a.plan(ctx, e)
	if err != nil {
		return err
	}
	if what := access.Removals(steps); what != "" {
		if err := access.Describe(e.err, steps); err != nil {
			return err
		}
		if err := a.confirm(ctx, e, "remove %s", what); err != nil {
			return err
		}
	}
	n := 0
	err = access.Apply(ctx, server, steps, func(step access.Step) {
		verb := "changed"
		switch {
		case step.Remove:
			verb = "removed"
		case step.Before == nil:
			verb = "created"
		}
		n++
		fmt.Fprintf(e.out, "[%d/%d] %s %s\n", n, len(steps), verb, terminal.Plain(step.String()))
	})
	switch {
	case err != nil && n > 0:
		return fmt.Errorf("%w; %d of %d changes are made, run the command again for the rest", err, n, len(steps))
	case err != nil:
		return err
	case len(steps) == 0:
		_, err = fmt.Fprintln(e.out, "Nothing to change.")
	}
	return err
}

type schema struct{}

func (schema) Help() string {
	return `Prints the JSON schema (https://json-schema.org, 2020-12) of the files of tollgate plan and apply, for editors:

    tollgate schema > access.schema.json`
}

func (schema) Run(e *env) error {
	_, err := io.Copy(e.out, strings.NewReader(access.Schema))
	return err
}
