package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/cli"
)

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
