package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Refresh trades a session's newest refresh token for the next pair. Of any
// number of calls with the same token one succeeds; every other is reuse,
// which ends the session and its access tokens (RFC 9700 §4.14.2).
func (s *Service) Refresh(ctx context.Context, token string) (Grant, error) {
	event := audit.New(ctx, audit.Refresh, audit.Success, "")
	event.ActorID, event.ActorName, event.SessionID, event.APIKeyID = "", "", "", ""
	if !isRefreshToken(token) {
		return Grant{}, s.refuseRefresh(ctx, event)
	}
	var grant Grant
	var reused bool
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		grant, reused = Grant{}, false
		var err error
		grant, err = s.rotate(ctx, tx, token, event)
		if !errors.Is(err, database.ErrNoRows) {
			return err
		}
		reused, err = s.detectReuse(ctx, tx, hashToken(token), event)
		return err
	})
	switch {
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
func (s *Service) rotate(ctx context.Context, tx *changes.Tx, token string, event audit.Event) (Grant, error) {
	now := s.world.Now()
	next, nextHash := newRefreshToken(s.world)
	ip, userAgent := device(caller.From(ctx))
	session, err := rotateSession(ctx, tx, rotation{
		old: hashToken(token), next: nextHash, now: now.UnixMicro(),
		// The session's last second is too short for an access token.
		end:  now.Add(time.Second).UnixMicro(),
		idle: now.Add(s.sessionIdle).UnixMicro(), ip: ip, userAgent: userAgent,
	})
	if err != nil {
		return Grant{}, err
	}
	if err := insertSpent(ctx, tx, hashToken(token), session.ID, session.Generation-1, now.UnixMicro()); err != nil {
		return Grant{}, err
	}
	user, err := userByID(ctx, tx, session.UserID)
	if err != nil {
		return Grant{}, fmt.Errorf("read user %s: %w", session.UserID, err)
	}
	event.ActorID, event.ActorName, event.SessionID = user.ID, user.Username, session.ID
	event.Resource = "sessions/" + session.ID
	tx.Record(event)
	return s.grant(now, session, user, next)
}

// detectReuse ends the session that a spent token is of. Only the call that
// ended it records a reuse; later ones record a failed refresh.
func (s *Service) detectReuse(ctx context.Context, tx *changes.Tx, hash []byte, event audit.Event) (bool, error) {
	sessionID, err := spentIn(ctx, tx, hash)
	if errors.Is(err, database.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	owner, ended, err := endSession(ctx, tx, sessionID, endedByReuse, s.world.Micros())
	if err != nil {
		return false, err
	}
	event.ActorID, event.SessionID, event.Resource = owner, sessionID, "sessions/"+sessionID
	event.Action, event.Outcome = audit.RefreshReuse, audit.Denied
	if !ended {
		event.Action, event.Outcome = audit.Refresh, audit.Failure
	} else {
		tx.Changed(changes.Session, sessionID)
	}
	tx.Record(event.Because(endedByReuse))
	return true, nil
}

func (s *Service) refuseRefresh(ctx context.Context, event audit.Event) error {
	event.Outcome = audit.Failure
	if err := s.audit.Record(ctx, event.Because("bad_refresh_token")); err != nil {
		return err
	}
	return badRefreshToken()
}
