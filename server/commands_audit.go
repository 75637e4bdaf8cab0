package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/cli"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// exitUnverified is the exit status of audit verify for a log that it could not verify.
const exitUnverified = 2

// auditVerify is the client's audit verify on the database. verifyOnDatabase leads to it.
type auditVerify struct{ cli.VerifyFlags }

// verifyOnDatabase says whether "audit verify" is to open the database, because no server
// is named, and returns the arguments of the command that does.
func verifyOnDatabase(args []string, first string) ([]string, bool) {
	at := slices.Index(args, first)
	if first != "audit" || at+1 >= len(args) || args[at+1] != "verify" || os.Getenv("TOLLGATE_URL") != "" || os.Getenv("TOLLGATE_PROFILE") != "" {
		return nil, false
	}
	for _, arg := range args {
		flag, _, _ := strings.Cut(arg, "=")
		if slices.Contains([]string{"--url", "--profile", "--api-key", "--help", "-h"}, flag) {
			return nil, false
		}
	}
	return slices.Concat(args[:at], []string{"audit-verify"}, args[at+2:]), true
}

// Run verifies the log in the database.
func (a auditVerify) Run(ctx context.Context, config app.Config) error {
	return a.Failed(app.WithAuditLog(ctx, config, func(source auditlog.Source, own []string) error {
		v, err := a.Verification(source, own, cli.Progress(os.Stderr))
		if err != nil {
			return err
		}
		report, err := v.Verify(ctx)
		if err != nil {
			return err
		}
		return a.Conclude(os.Stdout, v, report)
	}))
}

type auditLog struct {
	RotateKey auditRotateKey `cmd:"" help:"Sign checkpoints with a new key from now on. What the old one signed stays good."`
	StartOver auditStartOver `cmd:"" help:"Begin a new tree with the events that the log has, after an older state of the database was restored or the master key was lost."`
}

type auditRotateKey struct{}

func (auditRotateKey) Run(ctx context.Context, config app.Config) error {
	id, err := app.RotateAuditKey(ctx, config, clock.Real())
	if err != nil {
		return err
	}
	fmt.Printf("checkpoints are signed with the key %s from now on; tollgate audit keys shows it whole\n", id)
	return nil
}

type auditStartOver struct {
	Yes bool `help:"Confirm that checkpoints and proofs of the tree so far are of a log that is no more."`
}

func (auditStartOver) Help() string {
	return `Events stay. They go into a tree of another name with another key, so that nobody takes it for the one before: checkpoints that were saved, and proofs that were given, still say what that log had, and nothing about the new one. First keep a copy of the database, and find out with tollgate audit verify --since what is not as it was signed. Then restart every server, each with a new --audit-checkpoint-file. Witnesses must be told the new name and key.`
}

func (a auditStartOver) Run(ctx context.Context, config app.Config) error {
	if !a.Yes {
		return errors.New("checkpoints and proofs of the tree so far would be of a log that is no more; repeat it with --yes to do so")
	}
	name, err := app.StartAuditLogOver(ctx, config, clock.Real())
	if err != nil {
		return err
	}
	fmt.Printf("the audit log is %s now; restart every server\n", name)
	return nil
}
