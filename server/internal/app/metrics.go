package app

import (
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/password"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// registerMetrics registers what the packages count. limiterDown says whether
// the limiter's backend is left alone after a failure.
func (a *App) registerMetrics(limiterDown func() bool, leases func() limits.LeaseStats) {
	m := a.metrics
	m.Build(a.config.Version)
	m.Database(a.db.Stats)
	m.Decisions(a.overview.Each)

	a.Limits.Observe(m.CountedCall)
	m.Gauge("tollgate_limiter_down", "1 while the limiter's backend is down and limits go by their outage mode.", func() float64 {
		if limiterDown() {
			return 1
		}
		return 0
	})
	of := func(read func(limits.LeaseStats) uint64) func() float64 {
		return func() float64 { return float64(read(leases())) }
	}
	m.Counter("tollgate_limit_leases_asked_total", "Calls to the limiter's backend for limits with leases.",
		of(func(s limits.LeaseStats) uint64 { return s.Asked }))
	m.Counter("tollgate_limit_leases_refused_total", "Of these, those that asked for a lease and were granted no call.",
		of(func(s limits.LeaseStats) uint64 { return s.Refused }))
	m.Counter("tollgate_limit_leases_granted_calls_total", "Calls that this instance was granted ahead of time.",
		of(func(s limits.LeaseStats) uint64 { return s.Granted }))
	m.Counter("tollgate_limit_leases_lost_calls_total", "Of these, those that were not used in time: they are lost for everybody.",
		of(func(s limits.LeaseStats) uint64 { return s.Lost }))
	m.Counter("tollgate_limit_leases_answers_total", "Calls that limits with leases apply to, answered without the limiter's backend.",
		of(func(s limits.LeaseStats) uint64 { return s.Answered }))

	m.Gauge("tollgate_change_log_revision", "The newest change that is in force here.",
		func() float64 { return float64(a.log.Revision()) })
	m.Gauge("tollgate_change_log_lag_seconds", "How long ago this instance last knew that it had seen every change.",
		func() float64 { return a.log.Lag().Seconds() })
	m.Counter("tollgate_change_log_failures_total", "How often the change log could not be read.",
		func() float64 { return float64(a.log.Failures()) })

	written := func(read func(audit.Stats) uint64) func() float64 {
		return func() float64 { return float64(read(a.audit.Stats())) }
	}
	m.Counter("tollgate_audit_events_total", "Audit events written in commits of their own; those of changes commit with the change.",
		written(func(s audit.Stats) uint64 { return s.Events }))
	m.Counter("tollgate_audit_commits_total", "Commits that wrote these events, many at once under load.",
		written(func(s audit.Stats) uint64 { return s.Commits }))
	m.Counter("tollgate_audit_failures_total", "Audit events that could not be written; what needed them was refused.",
		written(func(s audit.Stats) uint64 { return s.Failures + s.Refused }))
	m.Counter("tollgate_audit_dropped_total", "Events about thresholds of quotas that were not recorded, because the audit log was busy.",
		written(func(s audit.Stats) uint64 { return s.Dropped }))
	m.Counter("tollgate_audit_allowed_total", "Calls that were allowed and are on record, because a recording asks for it.",
		written(func(s audit.Stats) uint64 { return s.Allowed }))
	m.Gauge("tollgate_audit_queue_length", "Audit events that wait for their commit.",
		func() float64 { return float64(a.audit.Stats().Queued) })

	m.Gauge("tollgate_audit_tree_lag_seconds", "Age of the oldest audit event that was not in the tree when this instance last looked; about a second under load.",
		func() float64 { return a.audit.Stats().Lag.Seconds() })
	m.Gauge("tollgate_audit_tree_forked", "1: the audit log's tree in the database does not continue what was signed; somebody changed it, or restored an older state.",
		func() float64 {
			if a.audit.Stats().Forked {
				return 1
			}
			return 0
		})
	m.Gauge("tollgate_audit_checkpoint_copies_failing", "How many of --audit-checkpoint-file and the witnesses could not be given the newest checkpoint of the audit log.",
		func() float64 { return float64(a.keeper.Failing()) })
	m.Gauge("tollgate_audit_log_bytes", "What the audit log and its indexes take up on the disk; with SQLite, the whole database. Read every ten seconds, the same for every instance.",
		func() float64 { return float64(a.audit.Stats().Bytes) })

	hashing := func(read func(password.Stats) int) func() float64 {
		return func() float64 { return float64(read(a.Auth.Passwords.Stats())) }
	}
	m.Gauge("tollgate_password_workers", "How many passwords may be checked at once.",
		hashing(func(s password.Stats) int { return s.Workers }))
	m.Gauge("tollgate_password_checks_running", "Passwords that are being checked.",
		hashing(func(s password.Stats) int { return s.Running }))
	m.Gauge("tollgate_password_checks_waiting", "Sign-ins that wait for a worker.",
		hashing(func(s password.Stats) int { return s.Waiting }))
	m.Counter("tollgate_password_checks_refused_total", "Sign-ins refused because too many waited.",
		func() float64 { return float64(a.Auth.Passwords.Stats().Refused) })
}
