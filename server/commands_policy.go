package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/policytest"
)

type policy struct {
	Test policyTest `cmd:"" help:"Run the cases of policy files: who may do what. Exit status 0: all passed; 1: some did not; 2: a file is wrong, or the server did not answer."`
}

func (policy) Help() string {
	return `A policy file has roles, users, resources and tests. Each test says who asks for what, and whether they may. The tests are judged as the server judges, by the policy in the file, without a server:

    # policy.yaml
    roles:
      - name: author
        grants:
          - permission: documents:write
            condition: resource.attributes.owner == principal.username
    users:
      - {name: mia, roles: [author]}
      - {name: tom, roles: [author]}
    resources:
      - {type: documents, id: plan, attributes: {owner: mia}}
    tests:
      - {name: owners write, user: mia, permission: documents:write, resource: documents/plan, expect: allow}
      - {name: others do not, user: tom, permission: documents:write, resource: documents/plan, expect: deny, reason: CONDITION_FALSE}

    tollgate policy test policy.yaml

With --url the same tests ask a running server, by its roles, users and resources: it explains each decision and counts nothing against limits.

    tollgate policy test --url https://tollgate.example.com --api-key … policy.yaml

docs/policies.md has every key of the file.`
}

type policyTest struct {
	Files   []string `arg:"" name:"file" help:"Policy files in YAML; - is standard input."`
	URL     string   `name:"url" help:"Ask this server rather than the policy in the files. It goes by its own roles, users and resources; cases that set now or scopes are skipped." env:"TOLLGATE_URL" placeholder:"URL"`
	APIKey  string   `name:"api-key" help:"API key for --url; it needs tollgate:explain and, to find users by name, tollgate:users:read." env:"TOLLGATE_API_KEY" secret:"true" placeholder:"KEY"`
	Verbose bool     `short:"v" help:"Also say why the cases that passed came as they did."`
}

// The exit statuses besides 0, all cases passed.
const (
	exitFailed = 1 // a case came otherwise
	exitWrong  = 2 // a file is wrong, or a case could not be decided
)

// exit is an error that ends the program with a status of its own.
type exit struct {
	error

	status int
}

// Run runs all files, also those after one that is wrong.
func (p policyTest) Run(ctx context.Context) error {
	var judge policytest.Judge = policytest.NewLocal(clock.Real().Now())
	at := ""
	if p.URL != "" {
		server, err := policytest.NewServer(p.URL, p.APIKey)
		if err != nil {
			return exit{err, exitWrong}
		}
		judge, at = server, " at "+server.Name()
	}
	var all tally
	for _, name := range p.Files {
		if err := p.file(ctx, name, judge, &all); err != nil {
			all.wrong++
			fmt.Fprintln(os.Stderr, err)
		}
	}
	fmt.Println(all.String() + at)
	switch {
	case all.wrong > 0:
		return exit{fmt.Errorf("%s could not be run", count(all.wrong, "file")), exitWrong}
	case all.failed > 0:
		return exit{fmt.Errorf("%s did not come as expected", count(all.failed, "case")), exitFailed}
	case all.passed == 0:
		return exit{errors.New("every case was skipped, so nothing is shown"), exitWrong}
	}
	return nil
}

func (p policyTest) file(ctx context.Context, name string, judge policytest.Judge, all *tally) error {
	_, server := judge.(*policytest.Server)
	f, err := readPolicy(name, server)
	if err != nil {
		return err
	}
	err = policytest.Run(ctx, f, judge, func(r *policytest.Result) {
		switch {
		case r.Skipped != "":
			all.skipped++
			fmt.Printf("SKIP %s:%s\n", f.Name, r)
		case !r.Passed():
			all.failed++
			fmt.Printf("FAIL %s:%s\n", f.Name, r)
		default:
			all.passed++
			if p.Verbose {
				fmt.Printf("ok   %s:%s\n", f.Name, r)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("%s:%w", f.Name, err)
	}
	return nil
}

// readPolicy reads a file. The error has a line for each thing that is wrong.
func readPolicy(name string, server bool) (*policytest.File, error) {
	var from io.Reader = os.Stdin
	if name == "-" {
		name = "standard input"
	} else {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	f, problems, err := policytest.Read(name, from, server)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var all []error
	for i, problem := range problems {
		if i == maxProblems {
			all = append(all, fmt.Errorf("%s: and %d more", name, len(problems)-i))
			break
		}
		all = append(all, errors.New(problem.In(name)))
	}
	return f, errors.Join(all...)
}

// maxProblems is how much of what is wrong with a file is shown.
const maxProblems = 20

// tally counts the cases, and the files that could not be run.
type tally struct{ passed, failed, skipped, wrong int }

func (t tally) String() string {
	text := count(t.passed, "case") + " passed"
	if t.failed > 0 {
		text += fmt.Sprintf(", %d failed", t.failed)
	}
	if t.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", t.skipped)
	}
	return text
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
