package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type audit struct {
	List    auditList    `cmd:"" help:"List events, newest first."`
	Show    auditShow    `cmd:"" help:"Show everything that is recorded of an event."`
	Summary auditSummary `cmd:"" help:"Count events by the hour, by the day or by action, of the last 24 hours or 30 days unless you say when."`
	Tail    auditTail    `cmd:"" help:"Show events as they are recorded, until Ctrl-C. It goes on after an outage where it was."`

	Verify     auditVerify     `cmd:"" help:"Check that nothing in the log was edited, deleted, reordered or cut off. Exit status 0: whole; 1: not; 2: it could not be checked."`
	Checkpoint auditCheckpoint `cmd:"" help:"Show the newest signed checkpoint, to be kept elsewhere."`
	Prove      auditProve      `cmd:"" help:"Show the proof that the log has an event, for somebody who has no access to the server."`
	Check      auditCheck      `cmd:"" help:"Check such a proof, without a server."`
	Keys       auditKeys       `cmd:"" help:"Show the keys that checkpoints are signed with."`

	Export auditExport `cmd:"" help:"Write the whole log, or a part of it, for other programs. Exit status 0: complete; else it is not."`

	Hold auditHold `cmd:"" help:"What of the log is kept whatever its age, for a court say."`

	Recordings auditRecordings `cmd:"" help:"Which allowed calls are recorded. (Refused ones always are.)"`
}

// eventFilter is which events.
type eventFilter struct {
	Actor      string `help:"Only what this user did: a name or an id." placeholder:"USER"`
	Action     string `help:"Only this action: role.assign; auth.* for all that begin so." placeholder:"ACTION"`
	Outcome    string `help:"Only success, denied or failure." enum:",success,denied,failure" default:"" placeholder:"NAME"`
	Resource   string `help:"Only what was done to this: roles/clerk, users/ID; orders/* for all that begin so." placeholder:"RESOURCE"`
	Reason     string `help:"Only what ended so for this reason: permission_missing." placeholder:"REASON"`
	Address    string `help:"Only from this address or network: 203.0.113.7, 2001:db8::/32." placeholder:"ADDRESS"`
	Session    string `help:"Only what was done in this session." placeholder:"ID"`
	Key        string `help:"Only what was done with this API key." placeholder:"ID"`
	Request    string `help:"Only what was done in this request." placeholder:"ID"`
	RecordedBy string `help:"Only what this service recorded." placeholder:"USER-ID"`
}

func (f eventFilter) outcome() tollgatev1.Outcome {
	number, _ := protoyaml.EnumNumber(tollgatev1.Outcome(0).Descriptor(), f.Outcome)
	return tollgatev1.Outcome(number)
}

func (f eventFilter) listing() *tollgatev1.ListEventsRequest {
	return &tollgatev1.ListEventsRequest{
		Actor: f.Actor, Action: f.Action, Outcome: f.outcome(), Resource: f.Resource, Reason: f.Reason, Address: f.Address,
		SessionId: f.Session, ApiKeyId: f.Key, RequestId: f.Request, RecordedBy: f.RecordedBy,
	}
}

func (f eventFilter) watching() *tollgatev1.WatchEventsRequest {
	return &tollgatev1.WatchEventsRequest{
		Actor: f.Actor, Action: f.Action, Outcome: f.outcome(), Resource: f.Resource, Reason: f.Reason, Address: f.Address,
		SessionId: f.Session, ApiKeyId: f.Key, RequestId: f.Request, RecordedBy: f.RecordedBy,
	}
}

func (f eventFilter) counting() *tollgatev1.GetSummaryRequest {
	return &tollgatev1.GetSummaryRequest{
		Actor: f.Actor, Action: f.Action, Outcome: f.outcome(), Resource: f.Resource, Reason: f.Reason, Address: f.Address,
		SessionId: f.Session, ApiKeyId: f.Key, RequestId: f.Request, RecordedBy: f.RecordedBy,
	}
}

// period is a time that events are from.
type period struct {
	After  string `help:"Only at or after this time: 2026-08-03T09:00:00Z, or 24h, 7d ago." placeholder:"TIME"`
	Before string `help:"Only before this time." placeholder:"TIME"`
}

func (p period) times(now time.Time) (after, before *timestamppb.Timestamp, err error) {
	if after, err = moment(now, "--after", p.After); err != nil {
		return nil, nil, err
	}
	before, err = moment(now, "--before", p.Before)
	return after, before, err
}

type auditList struct {
	eventFilter
	period

	Limit int `help:"How many at most; 0: all." default:"100" placeholder:"N"`
}

func (a auditList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := a.listing()
	if req.After, req.Before, err = a.times(e.now()); err != nil {
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
		t.header = eventHeader
		for _, event := range res.GetEvents() {
			t.row(eventCells(event)...)
		}
		if res.GetNextPageToken() != "" {
			t.note("there are more; --limit 0 shows all")
		}
	})
}

type auditShow struct {
	ID string `arg:"" help:"The event's id."`
}

func (a auditShow) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.audit.GetEvent(ctx, &tollgatev1.GetEventRequest{Id: a.ID})
	if err != nil {
		return err
	}
	event := res.GetEvent()
	return e.show(event, func(t *table) {
		actor := event.GetActor()
		for _, fact := range [][2]string{
			{"event", event.GetId()}, {"time", event.GetTime().AsTime().UTC().Format(time.RFC3339Nano)},
			{"action", event.GetAction()}, {"outcome", name(event.GetOutcome(), "OUTCOME_")}, {"reason", event.GetReason()},
			{"resource", event.GetResource()}, {"actor", actor.GetUsername()}, {"user id", actor.GetUserId()},
			{"session", actor.GetSessionId()}, {"API key", actor.GetApiKeyId()}, {"address", event.GetIp()},
			{"user agent", event.GetUserAgent()}, {"request", event.GetRequestId()}, {"recorded by", event.GetRecordedBy()},
		} {
			if fact[1] != "" {
				t.row(fact[0], fact[1])
			}
		}
		for _, key := range slices.Sorted(maps.Keys(event.GetDetails())) {
			t.row("details: "+key, event.GetDetails()[key])
		}
	})
}

var eventHeader = []string{"TIME", "OUTCOME", "ACTION", "ACTOR", "RESOURCE", "REASON", "ADDRESS", "USER AGENT", "ID"}

func eventCells(event *tollgatev1.Event) []string {
	actor := event.GetActor().GetUsername()
	if actor == "" {
		actor = event.GetActor().GetUserId()
	}
	return []string{
		event.GetTime().AsTime().UTC().Format("2006-01-02T15:04:05.000Z"), name(event.GetOutcome(), "OUTCOME_"), event.GetAction(), actor,
		event.GetResource(), event.GetReason(), event.GetIp(), event.GetUserAgent(), event.GetId(),
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
