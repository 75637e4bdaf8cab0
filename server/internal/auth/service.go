package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/attributes"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/auth/authority"
	"github.com/tollgatehq/tollgate/server/internal/auth/password"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/auth/totp"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// cachedUsers bounds how many users are kept in memory; those with large attributes
// count as several.
const cachedUsers = 100_000

// Options are what a Service needs. What has no default is required.
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
	SigningKeyRotation time.Duration // how often a new signing key is made; 0: only when asked for
	SigningKeyAhead    time.Duration // how long a key is published before it signs; 0: jose.KeyLeadTime

	Passwords password.Options

	SignedIn func(err error) // is told how each sign-in went; it must not block; nil: nobody
}

// Service is a changes.Follower and safe for concurrent use.
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

	SigningKeys *token.Keys
	APIKeys     *apikey.Service
	authority   *authority.Authority
	Passwords   *password.Pool
	users       *changes.Cache[string, identity]
	revoked     revokedIDs
	factors     totp.Issuer
	master      *seal.Master
	feed        changes.Feed[Revoked]
	signedIn    func(err error)
}

// New makes a Service. Before the first request, add it to the log's followers
// and call SigningKeys.Ensure.
func New(o Options) *Service {
	gate := authority.New(o.Roles, o.Clock)
	return &Service{
		db: o.DB, log: o.Log, audit: o.Audit, roles: o.Roles, limits: o.Limits, clock: o.Clock, pages: o.Pages,
		accessTokenTTL: o.AccessTokenTTL, sessionIdle: o.SessionIdle, sessionMax: o.SessionMax,
		refreshGrace: o.RefreshGrace,
		SigningKeys: token.New(token.Options{
			DB: o.DB, Log: o.Log, Clock: o.Clock, Master: o.Master, Issuer: o.Issuer, Audience: o.Audience, TTL: o.AccessTokenTTL,
			Algorithm: o.SigningAlgorithm, Rotation: o.SigningKeyRotation, Ahead: o.SigningKeyAhead,
		}),
		APIKeys:   apikey.NewService(o.DB, o.Log, o.Roles, gate, o.Clock, o.Pages),
		authority: gate,
		Passwords: password.NewPool(o.Passwords),
		users:     changes.NewWeighedCache[string](cachedUsers, func(who identity) int { return who.attributes.Weight() }),
		factors:   totp.NewIssuer(o.Issuer),
		master:    o.Master,
		signedIn:  o.SignedIn,
	}
}

// Reset forgets all users and API keys, and reads anew which sessions and
// tokens were revoked and which signing keys there are. Watchers of revocations
// connect again.
func (s *Service) Reset(ctx context.Context) error {
	s.feed.Drop()
	s.users.Clear()
	s.APIKeys.ForgetAll()
	rows, err := listRevokedSessions(ctx, s.db, s.horizon().UnixMicro())
	if err != nil {
		return fmt.Errorf("read the revoked sessions: %w", err)
	}
	until := make(map[string]time.Time, len(rows))
	for _, row := range rows {
		until[row.ID] = time.UnixMicro(row.RevokedAt).Add(s.accessTokenTTL + jose.ClockSkew)
	}
	tokens, err := listRevokedTokens(ctx, s.db, s.expired())
	if err != nil {
		return fmt.Errorf("read the revoked tokens: %w", err)
	}
	for _, row := range tokens {
		until[row.ID] = time.UnixMicro(row.ExpiresAt).Add(jose.ClockSkew)
	}
	s.revoked.replace(until)
	return s.SigningKeys.Load(ctx)
}

// Apply takes in what changed.
func (s *Service) Apply(ctx context.Context, list []changes.Change) error {
	now, signing := s.clock.Now(), false
	for _, c := range list {
		switch c.Kind {
		case changes.User:
			s.users.Invalidate(c.Subject)
		case changes.Session, changes.Token:
			s.revoked.add(c.Subject, now.Add(s.accessTokenTTL+jose.ClockSkew), now)
		case changes.APIKey:
			s.APIKeys.Forget(c.Subject)
		case changes.SigningKey:
			signing = true
		}
	}
	if signing {
		if err := s.SigningKeys.Load(ctx); err != nil {
			return err
		}
	}
	return s.sendRevocations(ctx, list)
}

// Prune deletes sessions that ended more than 30 days ago, with their spent
// tokens, signing keys that were removed as long ago, and revoked tokens that
// have expired. Call it once an hour.
func (s *Service) Prune(ctx context.Context) error {
	return errors.Join(
		deleteOldSessions(ctx, s.db, s.clock.Now().Add(-keepSessions).UnixMicro()),
		deleteRevokedTokens(ctx, s.db, s.expired()),
		s.SigningKeys.Prune(ctx),
	)
}

// identity reads who a user is through the cache; the zero identity when there
// is no such user.
func (s *Service) identity(ctx context.Context, id string) (identity, error) {
	return s.users.Get(ctx, id, func(ctx context.Context) (identity, error) {
		row, err := getUser(ctx, s.db, id)
		if errors.Is(err, database.ErrNoRows) {
			return identity{}, nil
		}
		if err != nil {
			return identity{}, err
		}
		kept, err := attributes.Keep(row.Attributes)
		if err != nil {
			return identity{}, err
		}
		return identity{
			Username: row.Username, Kind: row.Kind,
			Disabled: row.DisabledAt != nil, PasswordChangeRequired: row.PasswordChangeRequired,
			Audience: row.Audience, attributes: kept,
		}, nil
	})
}
