package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

const (
	refreshPrefix = "tgr_"
	refreshSize   = 32 // random bytes
)

// newRefreshToken returns a token and the hash to store.
func newRefreshToken() (token string, hash []byte) {
	random := make([]byte, refreshSize)
	rand.Read(random)
	token = refreshPrefix + base64.RawURLEncoding.EncodeToString(random)
	return token, hashToken(token)
}

// hashToken needs no salt and no stretching: a token has 256 random bits.
func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// parseRefreshToken returns the hash of a text that has the form of a refresh
// token.
func parseRefreshToken(token string) (hash []byte, ok bool) {
	text, ok := strings.CutPrefix(token, refreshPrefix)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(refreshSize) {
		return nil, false
	}
	return hashToken(token), true
}

// clientInfo is where a sign-in or refresh came from, fit for storing.
func clientInfo(ctx context.Context) client {
	c := caller.From(ctx)
	info := client{
		IP:        c.IPString(),
		UserAgent: strings.ReplaceAll(strings.ToValidUTF8(c.UserAgent, string(utf8.RuneError)), "\x00", ""),
	}
	if c.IP.IsValid() {
		info.Network = limits.IPKey(c.IP)
	}
	return info
}

type retryKey struct{}

// WithRetry has Refresh give a grace period at least so long, for a token that was given
// to a client of ours that may lose an answer.
func WithRetry(ctx context.Context, grace time.Duration) context.Context {
	return context.WithValue(ctx, retryKey{}, grace)
}

// grace is the grace period of a refresh.
func (s *Service) grace(ctx context.Context) time.Duration {
	given, _ := ctx.Value(retryKey{}).(time.Duration)
	return max(s.refreshGrace, given)
}

// Refresh trades a session's newest refresh token for the next pair. Of any
// number of calls with the same token one succeeds; every other is reuse,
// which ends the session and its access tokens (RFC 9700 §4.14.2). With a grace
// period, the token that was spent last may be sent again for so long, until
// the token that it was traded for is used: that one is replaced, and using it
// afterwards is reuse. An API key cannot spend one, and does not learn whether
// it is good: WRONG_CLIENT.
//
// The access token is for the audience, empty for the session's. A session that
// was begun for one audience gets no tokens for another: INVALID_AUDIENCE, and
// nothing is spent.
func (s *Service) Refresh(ctx context.Context, token, audience string) (Grant, error) {
	if _, err := s.audience(audience); err != nil {
		return Grant{}, err
	}
	event := audit.New(ctx, audit.Refresh, audit.Success, "")
	if ofAnotherClient(ctx) {
		return Grant{}, s.refuseClient(ctx, event)
	}
	event.ActorID, event.ActorName, event.SessionID, event.APIKeyID = "", "", "", ""
	hash, ok := parseRefreshToken(token)
	if !ok {
		return Grant{}, s.refuseRefresh(ctx, event)
	}
	if err := s.refuseDead(ctx, hash, event); err != nil {
		return Grant{}, err
	}
	var grant Grant
	var reused bool
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		grant, reused = Grant{}, false
		var err error
		grant, err = s.rotate(ctx, tx, hash, audience, event)
		if errors.Is(err, database.ErrNoRows) && s.grace(ctx) > 0 {
			grant, err = s.retry(ctx, tx, hash, audience, event.With("grace", "true"))
		}
		if !errors.Is(err, database.ErrNoRows) {
			return err
		}
		reused, err = s.detectReuse(ctx, tx, hash, event)
		return err
	})
	var other otherAudience
	switch {
	case errors.As(err, &other): // nothing was spent
		return Grant{}, s.refuseAudience(ctx, other.event)
	case err != nil:
		return Grant{}, fmt.Errorf("refresh: %w", err)
	case reused: // the end of the session is committed by now
		return Grant{}, refreshTokenReused()
	case grant.SessionID == "":
		return Grant{}, s.refuseRefresh(ctx, event)
	}
	return grant, nil
}

// rotate replaces the token if it is the newest of a live session of an enabled
// user; ErrNoRows otherwise.
func (s *Service) rotate(ctx context.Context, tx *changes.Tx, hash []byte, audience string, event audit.Event) (Grant, error) {
	now := s.clock.Now()
	next, r := s.rotation(ctx, now, hash)
	r.generation = 1
	session, err := updateToken(ctx, tx, r)
	if err != nil {
		return Grant{}, err
	}
	if err := insertSpent(ctx, tx, r.old, session.ID, session.Generation-1, r.now); err != nil {
		return Grant{}, err
	}
	return s.refreshed(ctx, tx, now, session, next, audience, event)
}

// retry serves a client that lost the answer to its last refresh: it replaces
// the token that the spent one was traded for, in its own generation, if that
// was not used and the session is live; ErrNoRows otherwise.
func (s *Service) retry(ctx context.Context, tx *changes.Tx, hash []byte, audience string, event audit.Event) (Grant, error) {
	now := s.clock.Now()
	// This holds the session's row until the commit: a use of the successor at
	// the same time comes before, and then it is none, or after, and then it is
	// reuse.
	successor, err := lockSuccessor(ctx, tx, hash, now.Add(-s.grace(ctx)).UnixMicro())
	if err != nil {
		return Grant{}, err
	}
	next, r := s.rotation(ctx, now, successor)
	session, err := updateToken(ctx, tx, r)
	if err != nil {
		return Grant{}, err
	}
	if err := insertSpent(ctx, tx, r.old, session.ID, neverUsed, r.now); err != nil {
		return Grant{}, err
	}
	return s.refreshed(ctx, tx, now, session, next, audience, event)
}

// rotation makes the next token and says what to replace the old one by.
func (s *Service) rotation(ctx context.Context, now time.Time, old []byte) (next string, r rotation) {
	next, nextHash := newRefreshToken()
	return next, rotation{
		old: old, next: nextHash, now: now.UnixMicro(),
		// The session's last second is too short for an access token.
		end:  now.Add(time.Second).UnixMicro(),
		idle: now.Add(s.sessionIdle).UnixMicro(), client: clientInfo(ctx),
	}
}

// refreshed records a refresh and makes what it hands out.
func (s *Service) refreshed(ctx context.Context, tx *changes.Tx, now time.Time, session sessionRow, next, asked string, event audit.Event) (Grant, error) {
	user, err := getUser(ctx, tx, session.UserID)
	if err != nil {
		return Grant{}, fmt.Errorf("read user %s: %w", session.UserID, err)
	}
	event.ActorID, event.ActorName, event.SessionID = user.ID, user.Username, session.ID
	event.Resource = "sessions/" + session.ID
	audience, ok := s.audienceOf(session, asked)
	if !ok {
		return Grant{}, otherAudience{event.With("audience", asked).Because("wrong_audience")}
	}
	tx.Record(withAudience(event, audience))
	return s.grant(now, session, user, audience, next)
}

// detectReuse revokes the session that a spent token is of. Only the call that
// revoked it records a reuse; later ones record a failed refresh.
func (s *Service) detectReuse(ctx context.Context, tx *changes.Tx, hash []byte, event audit.Event) (bool, error) {
	found, err := getTokenSession(ctx, tx, hash)
	if errors.Is(err, database.ErrNoRows) || err == nil && !found.Spent {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, revoked, err := s.revokeSession(ctx, tx, "", found.ID, revokedByReuse)
	if err != nil {
		return false, err
	}
	event.ActorID, event.SessionID, event.Resource = found.UserID, found.ID, "sessions/"+found.ID
	event.Outcome = audit.Failure
	if revoked {
		event.Action, event.Outcome = audit.RefreshReuse, audit.Denied
	}
	tx.Record(event.Because(revokedByReuse))
	return true, nil
}

func (s *Service) refuseAudience(ctx context.Context, event audit.Event) error {
	event.Outcome = audit.Denied
	if err := s.audit.RecordRefusal(ctx, event, string(event.Action)+" "+event.Reason, event.Origin()); err != nil {
		return err
	}
	return badAudience("the session was begun for another audience; leave the audience out, or sign in for this one")
}

// refuseDead refuses, by reading alone, a token that is unknown or whose session
// is over for good: such tokens cost no transaction, however many come. Whatever
// else there is to find out is found out in the transaction that changes it.
func (s *Service) refuseDead(ctx context.Context, hash []byte, event audit.Event) error {
	found, err := getTokenSession(ctx, s.db, hash)
	switch {
	case errors.Is(err, database.ErrNoRows):
		return s.refuseRefresh(ctx, event)
	case err != nil:
		return fmt.Errorf("refresh: %w", err)
	case found.RevokedAt == nil && (found.Spent || found.IdleExpiresAt > s.clock.Micros()):
		return nil
	case !found.Spent:
		return s.refuseRefresh(ctx, event)
	}
	event.ActorID, event.SessionID, event.Resource = found.UserID, found.ID, "sessions/"+found.ID
	event.Outcome = audit.Failure
	return s.refuseAnonymous(ctx, event.Because(revokedByReuse), refreshTokenReused())
}

func (s *Service) refuseRefresh(ctx context.Context, event audit.Event) error {
	event.Outcome = audit.Failure
	return s.refuseAnonymous(ctx, event.Because("bad_refresh_token"), badRefreshToken())
}

func badRefreshToken() error {
	return fault.New(fault.Unauthenticated, "BAD_REFRESH_TOKEN", "the refresh token is unknown or its session has ended; sign in again")
}

func refreshTokenReused() error {
	return fault.New(fault.Unauthenticated, "REFRESH_TOKEN_REUSED",
		"the refresh token was used before, so its session has been revoked; sign in again")
}
