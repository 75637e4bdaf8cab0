package app

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
)

// Age is how long something is kept. As text it is a duration in Go's form, or a number of
// days or of years of 365 days: 36h, 90d, 2y.
type Age time.Duration

// UnmarshalText reads an age.
func (a *Age) UnmarshalText(text []byte) error {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "y": 365 * 24 * time.Hour} {
		number, ok := strings.CutSuffix(string(text), unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || n < 0 || time.Duration(n) > maxAge/length {
			return fmt.Errorf("%q must be a time of at most 200 years, such as 36h, 90d or 2y", text)
		}
		*a = Age(time.Duration(n) * length)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q must be a time such as 36h, 90d or 2y", text)
	}
	*a = Age(d)
	return nil
}

const maxAge = 200 * 365 * 24 * time.Hour

// retentions are what the flags say of the audit log.
func (c Config) retentions() (audit.Retentions, error) {
	r := audit.Retentions{Default: time.Duration(c.AuditRetention), For: map[string]time.Duration{}}
	if err := (audit.Retentions{Default: r.Default}).Check(); err != nil {
		return r, fmt.Errorf("--audit-retention %w", err)
	}
	for _, text := range c.RetentionFor {
		pattern, age, ok := strings.Cut(text, "=")
		if !ok {
			return r, fmt.Errorf("--audit-retention-for %q must be an action and for how long its events are kept, such as access.denied=30d", text)
		}
		if _, twice := r.For[pattern]; twice {
			return r, fmt.Errorf("--audit-retention-for names %q twice", pattern)
		}
		var kept Age
		if err := kept.UnmarshalText([]byte(age)); err != nil {
			return r, fmt.Errorf("--audit-retention-for %s: %w", pattern, err)
		}
		r.For[pattern] = time.Duration(kept)
	}
	if err := r.Check(); err != nil {
		return r, fmt.Errorf("--audit-retention-for: %w", err)
	}
	return r, nil
}

// pruneAudit deletes old audit events, at the start and then every hour.
func (a *App) pruneAudit(ctx context.Context, keep audit.Retentions) {
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		deleted, err := a.audit.Prune(ctx, keep)
		if deleted > 0 {
			a.out.Log.InfoContext(ctx, "old audit events were deleted", "count", deleted)
		}
		if err != nil && ctx.Err() == nil {
			a.out.Log.WarnContext(ctx, "old audit events cannot be deleted; trying again in an hour", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
