package cli

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
)

type sessions struct {
	List sessionsList `cmd:"" help:"List a user's live sessions, newest first."`
	End  sessionsEnd  `cmd:"" help:"End one session of a user, or all of them when none is named."`
}

func (a *api) sessions(ctx context.Context, userID string) (*tollgatev1.ListSessionsResponse, error) {
	return paging.All(0, func(size int32, token string) (*tollgatev1.ListSessionsResponse, error) {
		return a.auth.ListSessions(ctx, &tollgatev1.ListSessionsRequest{Id: userID, PageSize: size, PageToken: token})
	})
}

type sessionsList struct{ oneUser }

func (s sessionsList) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, s.User)
	if err != nil {
		return err
	}
	res, err := server.sessions(ctx, user.GetId())
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"ID", "SIGNED IN", "REFRESHED", "ENDS", "ADDRESS", "USER AGENT", "YOURS"}
		for _, s := range res.GetSessions() {
			mine := ""
			if s.GetCurrent() {
				mine = "this one"
			}
			t.row(s.GetId(), when(s.GetCreatedAt()), when(s.GetRefreshedAt()), when(s.GetExpiresAt()), s.GetIp(), s.GetUserAgent(), mine)
		}
	})
}

type sessionsEnd struct {
	oneUser

	Session string `arg:"" optional:"" help:"The session's id, as listed; all of the user's when it is left out."`
	confirmed
}

func (s sessionsEnd) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, s.User)
	if err != nil {
		return err
	}
	if s.Session != "" {
		res, err := server.auth.RevokeSession(ctx, &tollgatev1.RevokeSessionRequest{Id: user.GetId(), SessionId: s.Session})
		if err != nil {
			return err
		}
		e.say("ended session %s", s.Session)
		return e.asked(res)
	}
	live, err := server.sessions(ctx, user.GetId())
	if err != nil {
		return err
	}
	if err := s.confirm(ctx, e, "end %s of %s", count(len(live.GetSessions()), "session"), s.User); err != nil {
		return err
	}
	res, err := server.auth.RevokeSessions(ctx, &tollgatev1.RevokeSessionsRequest{Id: user.GetId()})
	if err != nil {
		return err
	}
	e.say("sessions ended: %d", res.GetRevokedSessions())
	return e.asked(res)
}
