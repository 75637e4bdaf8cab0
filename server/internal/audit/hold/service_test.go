package hold

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func onDatabases(t *testing.T, test func(t *testing.T, ctx context.Context, db *database.DB, s *Service)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		clk := clock.NewFake(now).Clock()
		s := New(db, changes.New(db, changes.Options{Clock: clk}), clk, page.NewTokens([]byte(strings.Repeat("k", 32))))
		test(t, caller.System(t.Context()), db, s)
	})
}

// A hold is listed as it was made until it is deleted, and each change is on record.
func TestLife(t *testing.T) {
	onDatabases(t, func(t *testing.T, ctx context.Context, db *database.DB, s *Service) {
		want := audit.Hold{
			Name: "case-17", Reason: "a court said so", CreatedBy: audit.SystemActor, CreatedAt: now,
			Filter: audit.Filter{Actor: "ann", Action: "auth.*", Resource: "orders/*", After: now.Add(-time.Hour), Before: now},
		}
		asked := want
		asked.CreatedBy, asked.CreatedAt = "", time.Time{}
		made, err := s.Create(ctx, asked)
		backendtest.Must(t, err)
		backendtest.Equal(t, made, want, "hold as made")
		backendtest.Must(t, faulttest.Err(s.Create(ctx, audit.Hold{Name: "all"})))
		list := backendtest.Pages(t, func(token string) ([]audit.Hold, string, error) { return s.List(ctx, 1, token) })
		backendtest.Equal(t, list, [][]audit.Hold{{{Name: "all", CreatedBy: audit.SystemActor, CreatedAt: now}}, {want}}, "holds")
		backendtest.Must(t, s.Delete(ctx, "case-17"))
		left, _, err := s.List(ctx, 10, "")
		if err != nil || len(left) != 1 {
			t.Errorf("%v are left, %v", left, err)
		}
		var events []string
		backendtest.Must(t, db.Select(ctx, &events, `SELECT action || ' ' || resource || ' ' || details FROM audit_events ORDER BY position`))
		details := `{"action":"auth.*","actor":"ann","after":"2026-01-02T02:04:05.000006Z","before":"2026-01-02T03:04:05.000006Z","reason":"a court said so","resource":"orders/*"}`
		backendtest.Equal(t, events, []string{
			"tollgate.audit_hold holds/case-17 " + details, "tollgate.audit_hold holds/all {}", "tollgate.audit_release holds/case-17 " + details,
		}, "events")
	})
}

// What cannot be is refused with what is wrong about it, and is not on record.
func TestRefused(t *testing.T) {
	onDatabases(t, func(t *testing.T, ctx context.Context, db *database.DB, s *Service) {
		backendtest.Must(t, faulttest.Err(s.Create(ctx, audit.Hold{Name: "there"})))
		for field, h := range map[string]audit.Hold{
			"name": {Name: "Not A Name"}, "actor": {Name: "a", Filter: audit.Filter{Actor: strings.Repeat("a", 129)}},
			"action":   {Name: "a", Filter: audit.Filter{Action: strings.Repeat("a", 129)}},
			"resource": {Name: "a", Filter: audit.Filter{Resource: strings.Repeat("ä", 129)}},
			"reason":   {Name: "a", Reason: strings.Repeat("ä", 257)},
			"before":   {Name: "a", Filter: audit.Filter{After: now, Before: now}},
		} {
			if _, err := s.Create(ctx, h); err == nil || fault.From(err).Violations[0].Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		faulttest.Want(t, faulttest.Err(s.Create(ctx, audit.Hold{Name: "there"})), fault.Exists, "HOLD_EXISTS")
		faulttest.Want(t, s.Delete(ctx, "nobody"), fault.NotFound, "HOLD_NOT_FOUND")
		for n := range 999 {
			backendtest.Must(t, faulttest.Err(db.Exec(ctx, `INSERT INTO audit_holds (name, actor, action, resource, reason, created_by, created_at)
				VALUES ($1, '', '', '', '', '', 0)`, fmt.Sprint("more-", n))))
		}
		faulttest.Want(t, faulttest.Err(s.Create(ctx, audit.Hold{Name: "last"})), fault.Precondition, "TOO_MANY_HOLDS")
		backendtest.WantCount(t, db, 1, `SELECT COUNT(*) FROM audit_events`)
	})
}
