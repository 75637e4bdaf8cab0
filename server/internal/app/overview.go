package app

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/overview"
)

// newOverview starts the overview of this instance.
func (a *App) newOverview(limiterDown func() bool) *overview.Service {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	audits := lately{clock: a.clock.Now}
	return overview.New(overview.Instance{
		ID: a.clock.NewID(), Host: host, Version: a.config.Version, StartedAt: a.clock.Now(),
	}, a.clock, func(ctx context.Context) []overview.Part {
		return []overview.Part{a.databasePart(ctx), a.limitsPart(limiterDown()), a.changesPart(), a.auditPart(&audits), a.keysPart()}
	})
}

// signedIn counts a sign-in. Being asked for a code is neither one that failed nor one
// that went well.
func (a *App) signedIn(err error) {
	if err == nil {
		a.overview.SignedIn(overview.SignedIn)
		return
	}
	switch fault.From(err).Reason {
	case "BAD_CREDENTIALS":
		a.overview.SignedIn(overview.SignInFailed)
	case "TOO_MANY_ATTEMPTS":
		a.overview.SignedIn(overview.SignInLimited)
	}
}

func (a *App) databasePart(ctx context.Context) overview.Part {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if a.db.Ping(ctx) != nil {
		return overview.Part{Name: "database", State: overview.Down,
			Detail: fmt.Sprintf("The database does not answer. Decisions go on from memory for %s; sign-ins and changes are refused.", a.config.Staleness)}
	}
	return overview.Part{Name: "database", State: overview.OK, Detail: "The database answers."}
}

func (a *App) limitsPart(down bool) overview.Part {
	p := overview.Part{Name: "limits", State: overview.OK, Detail: "Limits are counted in Redis."}
	switch {
	case a.redis == nil:
		p.Detail = "Limits are counted in this process."
	case down:
		p.State, p.Detail = overview.Degraded, "Redis does not answer. Each limit does what its outage mode says."
	}
	return p
}

// lagging is how old the last look at the change log is at most when all is well: it is
// read twice a second.
const lagging = 2 * time.Second

func (a *App) changesPart() overview.Part {
	p := overview.Part{Name: "changes", State: overview.OK, Detail: fmt.Sprintf("Everything up to revision %d is in force here.", a.log.Revision())}
	switch lag := a.log.Lag(); {
	case lag > a.config.Staleness:
		p.State, p.Detail = overview.Down, fmt.Sprintf("This instance has not read the change log for %s. It refuses every call until it can.", lag.Truncate(time.Second))
	case lag > lagging:
		p.State, p.Detail = overview.Degraded, fmt.Sprintf("This instance has not read the change log for %s. Changes that others made may not be in force here.", lag.Truncate(time.Second))
	}
	return p
}

func (a *App) auditPart(failing *lately) overview.Part {
	stats := a.audit.Stats()
	p := overview.Part{Name: "audit", State: overview.OK, Detail: fmt.Sprintf("%d events wait to be written.", stats.Queued)}
	switch failed := failing.rose(stats.Failures + stats.Refused); {
	case failed:
		p.State, p.Detail = overview.Down, "Events could not be written in the last minute. The calls that needed them were refused."
	case stats.Queued > audit.Capacity/2:
		p.State, p.Detail = overview.Degraded, fmt.Sprintf("%d events wait to be written, of %d that may.", stats.Queued, audit.Capacity)
	}
	return p
}

func (a *App) keysPart() overview.Part {
	p := overview.Part{Name: "signing_keys", State: overview.OK}
	id, created := a.Auth.SigningKeys.Signing()
	age := a.clock.Now().Sub(created)
	switch {
	case id == "":
		p.State, p.Detail = overview.Down, "No key signs. Nobody can sign in."
	case a.config.SigningKeyRotation > 0 && age > a.config.SigningKeyRotation+a.signingKeyAhead()+time.Hour:
		p.State, p.Detail = overview.Degraded, fmt.Sprintf("The signing key is %s old and was not rotated when it was time.", days(age))
	default:
		p.Detail = fmt.Sprintf("The signing key is %s old.", days(age))
	}
	return p
}

func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return "less than a day"
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// lately says whether a count rose in the last minute, as far as it was looked at.
type lately struct {
	clock func() time.Time

	mu   sync.Mutex
	seen uint64
	at   time.Time // when it was seen to have risen
}

func (l *lately) rose(count uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	if count > l.seen {
		l.seen, l.at = count, now
	}
	return !l.at.IsZero() && now.Sub(l.at) < time.Minute
}
