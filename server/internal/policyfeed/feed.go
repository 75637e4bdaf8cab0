// Package policyfeed tells services that decide calls by themselves what they need
// for that: all roles and limits, and which calls are recorded, then what changes, and
// about whom to ask again.
package policyfeed

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/recordings"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Message is what changed.
type Message struct {
	Snapshot bool  // it replaces everything before
	Partial  bool  // more of the snapshot follows
	Revision int64 // everything up to it is told; 0 with Partial

	Roles         []roles.Outline
	RemovedRoles  []string
	Limits        []limits.Outline
	RemovedLimits []string

	// Whom to ask about again.
	Users     []string
	Sessions  []string
	APIKeys   []string
	Tokens    []string // by their "jti"
	Everybody bool
}

// Service is a changes.Follower: follow it after those whose state it passes on.
type Service struct {
	log    *changes.Log
	roles  *roles.Service
	limits *limits.Service
	record *recordings.Service
	feed   changes.Feed[Message]
}

// New makes the service.
func New(log *changes.Log, r *roles.Service, l *limits.Service, rec *recordings.Service) *Service {
	return &Service{log: log, roles: r, limits: l, record: rec}
}

// recordingPrefix is what the name of a limit begins with that stands for a recording.
// No limit's own name has a colon.
const recordingPrefix = "recording:"

// asked is a recording as a limit that counts every call that it matches, and of which
// there are no leases: callers of every version ask about each such call, also where a
// caller needs no permission.
func asked(r recordings.Recording) limits.Outline {
	return limits.Outline{Name: recordingPrefix + r.Name, Permission: r.Permission, Subject: limits.SubjectGlobal}
}

// Reset has all watchers connect again.
func (s *Service) Reset(context.Context) error {
	s.feed.Drop()
	return nil
}

// Apply passes changes on. Its message has the latest of their revisions: an answer
// that is older than that may be older than one of them.
func (s *Service) Apply(_ context.Context, list []changes.Change) error {
	if len(list) > 0 && s.feed.Watched() {
		s.feed.Send(s.message(list))
	}
	return nil
}

// message is sent for revisions that change nothing here, too, so that watchers know
// as soon as they can that they are as new.
func (s *Service) message(list []changes.Change) Message {
	var m Message
	policy := s.roles.Policy()
	seen := make(map[changes.Change]bool, len(list))
	for _, c := range list {
		m.Revision = max(m.Revision, c.Revision)
		if c.Revision = 0; seen[c] {
			continue
		}
		seen[c] = true
		switch c.Kind {
		case changes.Role:
			if o, found := policy.Outline(c.Subject); found {
				m.Roles = append(m.Roles, o)
			} else {
				m.RemovedRoles = append(m.RemovedRoles, c.Subject)
			}
		case changes.Limit:
			if o, found := s.limits.Outline(c.Subject); found {
				m.Limits = append(m.Limits, o)
			} else {
				m.RemovedLimits = append(m.RemovedLimits, c.Subject)
			}
		case changes.Recording:
			if r, found := s.record.Find(c.Subject); found {
				m.Limits = append(m.Limits, asked(r))
			} else {
				m.RemovedLimits = append(m.RemovedLimits, recordingPrefix+c.Subject)
			}
		case changes.User, changes.Membership:
			m.Users = append(m.Users, c.Subject)
			m.Everybody = m.Everybody || c.Subject == ""
		case changes.Session:
			m.Sessions = append(m.Sessions, c.Subject)
		case changes.APIKey:
			m.APIKeys = append(m.APIKeys, c.Subject)
		case changes.Token:
			m.Tokens = append(m.Tokens, c.Subject)
		case changes.Route, changes.Resource:
		default: // a signing key, or what only another version knows
			m.Everybody = true
		}
	}
	return m
}
