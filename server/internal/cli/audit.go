package cli

import (
	"context"
	"fmt"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type audit struct {
	List auditList `cmd:"" help:"List events, newest first."`
	Tail auditTail `cmd:"" help:"Show events as they are recorded, until Ctrl-C. It goes on after an outage where it was."`
}

// eventFilter is which events.
type eventFilter struct {
	Actor   string `help:"Only what this user did: a name or an id." placeholder:"USER"`
	Action  string `help:"Only this action: role.assign; auth.* for all that begin so." placeholder:"ACTION"`
	Outcome string `help:"Only success, denied or failure." enum:",success,denied,failure" default:"" placeholder:"NAME"`
}

func (f eventFilter) outcome() tollgatev1.Outcome {
	number, _ := protoyaml.EnumNumber(tollgatev1.Outcome(0).Descriptor(), f.Outcome)
	return tollgatev1.Outcome(number)
}

type auditList struct {
	eventFilter

	Resource string `help:"Only what was done to this: roles/clerk, users/ID." placeholder:"RESOURCE"`
	After    string `help:"Only at or after this time: 2026-08-03T09:00:00Z, or 24h, 7d ago." placeholder:"TIME"`
	Before   string `help:"Only before this time." placeholder:"TIME"`
	Limit    int    `help:"How many at most; 0: all." default:"100" placeholder:"N"`
}

func (a auditList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := &tollgatev1.ListEventsRequest{Actor: a.Actor, Action: a.Action, Outcome: a.outcome(), Resource: a.Resource}
	if req.After, err = moment(e.now(), "--after", a.After); err != nil {
		return err
	}
	if req.Before, err = moment(e.now(), "--before", a.Before); err != nil {
		return err
	}
	res, err := paging.All(a.Limit, func(size int32, token string) (*tollgatev1.ListEventsResponse, error) {
		req.PageSize, req.PageToken = size, token
		return server.audit.ListEvents(ctx, req)
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"TIME", "OUTCOME", "ACTION", "ACTOR", "RESOURCE", "REASON", "ADDRESS", "USER AGENT"}
		for _, event := range res.GetEvents() {
			t.row(eventCells(event)...)
		}
		if res.GetNextPageToken() != "" {
			t.note("there are more; --limit 0 shows all")
		}
	})
}

func eventCells(event *tollgatev1.Event) []string {
	actor := event.GetActor().GetUsername()
	if actor == "" {
		actor = event.GetActor().GetUserId()
	}
	return []string{
		event.GetTime().AsTime().UTC().Format("2006-01-02T15:04:05.000Z"), name(event.GetOutcome(), "OUTCOME_"), event.GetAction(), actor,
		event.GetResource(), event.GetReason(), event.GetIp(), event.GetUserAgent(),
	}
}

// moment is a time, or how long ago it was; unset for an empty text.
func moment(now time.Time, flag, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return timestamppb.New(at), nil
	}
	if ago, err := protoyaml.ParseDuration(text); err == nil && ago >= 0 {
		return timestamppb.New(now.Add(-ago)), nil
	}
	return nil, fmt.Errorf("%s %q must be a time with its zone, such as 2026-08-03T09:00:00Z, or how long ago: 30m, 24h, 7d", flag, text)
}
