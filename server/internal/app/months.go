package app

import (
	"context"
	"strings"
	"time"
)

// monthsEvery is how often the audit log's partitions are checked, and monthsRetry
// how soon after a failure. They are made two months ahead.
const (
	monthsEvery = time.Hour
	monthsRetry = time.Minute
)

// makeMonths makes the audit log's partitions of the coming months, and says whether all
// are there.
func (a *App) makeMonths(ctx context.Context) bool {
	err := a.audit.MakeMonths(ctx)
	if err != nil && ctx.Err() == nil {
		a.out.Log.WarnContext(ctx, "the audit log's partitions of the coming months cannot be made; trying again", "error", err)
	}
	return err == nil
}

// keepMonths maintains the audit log's partitions and their indexes.
func (a *App) keepMonths(ctx context.Context) {
	for {
		wait := monthsEvery
		if !a.makeMonths(ctx) {
			wait = monthsRetry
		}
		built, err := a.audit.BuildIndexes(ctx)
		if len(built) > 0 {
			a.out.Log.InfoContext(ctx, "indexes of the audit log were built", "indexes", strings.Join(built, ", "))
		}
		if err != nil && ctx.Err() == nil {
			a.out.Log.WarnContext(ctx, "indexes of the audit log cannot be built; trying again in an hour", "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
