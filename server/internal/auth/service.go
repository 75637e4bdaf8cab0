package auth

import (
	"context"
	"errors"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// cachedUsers bounds how many users are kept in memory.
const cachedUsers = 100_000

// Options are what a Service needs. All but the two of bcrypt are required.
type Options struct {
	DB     *database.DB
	Log    *changes.Log
	Audit  *audit.Service
	Roles  *roles.Service
	Limits *limits.Service
	Clock  clock.Clock
	Pages  page.Tokens
	Master *seal.Master // seals the private signing keys and the second factors

	Issuer   string // "iss" of access tokens
	Audience string // "aud" of access tokens

	AccessTokenTTL time.Duration
	SessionIdle    time.Duration // a session that is not refreshed for so long ends
	SessionMax     time.Duration // every session ends after so long
	RefreshGrace   time.Duration // how long the last spent refresh token may be sent again; 0: not at all

	SigningAlgorithm   string        // of signing keys made from now on; "": EdDSA
	SigningKeyRotation time.Duration // how often a new signing key is made; 0: only when told to
	SigningKeyAhead    time.Duration // how long a key is published before it signs; 0: jose.KeyLeadTime

	BcryptCost    int // 0: 12
	BcryptWorkers int // how many bcrypt runs at once; 0: half the processors
	MaxHeld       int // how many refused sign-ins are kept waiting for their answer at once; 0: 128
}

// Service is the room's door for the rest of Tollgate. It is a
// changes.Follower and safe for concurrent use.
type Service struct {
	db     *database.DB
	log    *changes.Log
	audit  *audit.Service
	roles  *roles.Service
	limits *limits.Service
	clock  clock.Clock
	pages  page.Tokens

	accessTokenTTL time.Duration
	sessionIdle    time.Duration
	sessionMax     time.Duration
	refreshGrace   time.Duration

	keys      *signingKeys
	apiKeys   *apiKeys
	passwords *passwords
	users     *changes.Cache[string, identity]
	ended     endedSessions
	factors   secondFactors

	revocations revocations
}

// New makes a Service. Have the log follow it, and call EnsureSigningKey,
// before the first request.
func New(o Options) *Service {
	return &Service{
		db: o.DB, log: o.Log, audit: o.Audit, roles: o.Roles, limits: o.Limits, clock: o.Clock, pages: o.Pages,
		accessTokenTTL: o.AccessTokenTTL, sessionIdle: o.SessionIdle, sessionMax: o.SessionMax,
		refreshGrace: o.RefreshGrace,
		keys:         newSigningKeys(o),
		apiKeys:      newAPIKeys(),
		passwords:    newPasswords(o.BcryptCost, o.BcryptWorkers, o.MaxHeld),
		users:        changes.NewCache[string, identity](cachedUsers),
		factors:      newSecondFactors(o),
	}
}

// Reset forgets all users and reads anew which sessions have ended and which
// keys there are.
func (s *Service) Reset(ctx context.Context) error {
	s.users.Clear()
	memory := s.accessTokenTTL + jose.ClockSkew
	rows, err := endedSince(ctx, s.db, s.clock.Now().Add(-memory).UnixMicro())
	if err != nil {
		return err
	}
	until := make(map[string]time.Time, len(rows))
	for _, row := range rows {
		until[row.ID] = time.UnixMicro(row.RevokedAt).Add(memory)
	}
	s.ended.replace(until)
	return s.resetKeys(ctx)
}

// Apply takes in what changed.
func (s *Service) Apply(ctx context.Context, list []changes.Change) error {
	now := s.clock.Now()
	for _, c := range list {
		switch c.Kind {
		case changes.User:
			s.users.Invalidate(c.Subject)
		case changes.Session:
			s.ended.add(c.Subject, now.Add(s.accessTokenTTL+jose.ClockSkew), now)
		}
	}
	if err := s.applyKeys(ctx, list); err != nil {
		return err
	}
	return s.tellRevocations(ctx, list)
}

// Prune deletes sessions that ended more than 30 days ago, with their spent
// tokens, and signing keys that were removed as long ago. Call it now and then.
func (s *Service) Prune(ctx context.Context) error {
	now := s.clock.Now()
	return errors.Join(
		pruneSessions(ctx, s.db, now.Add(-keepSessions).UnixMicro()),
		pruneSigningKeys(ctx, s.db, now.Add(-jose.ClockSkew), now.Add(-keepSigningKeyRows)),
	)
}

// identity reads who a user is through the cache; the zero identity when there
// is no such user.
func (s *Service) identity(ctx context.Context, id string) (identity, error) {
	return s.users.Get(ctx, id, func(ctx context.Context) (identity, error) {
		row, err := userByID(ctx, s.db, id)
		if errors.Is(err, database.ErrNoRows) {
			return identity{}, nil
		}
		if err != nil {
			return identity{}, err
		}
		return identity{
			Username: row.Username, Kind: row.Kind,
			Disabled: row.DisabledAt != nil, PasswordChangeRequired: row.PasswordChangeRequired,
			Audience: row.Audience,
		}, nil
	})
}
