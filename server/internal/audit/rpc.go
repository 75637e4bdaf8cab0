package audit

import (
	"context"
	"time"

	"connectrpc.com/connect"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

const keepAliveEvery = 15 * time.Second

var outcomes = protoconv.NewEnum[Outcome, tollgatev1.Outcome](tollgatev1.Outcome_name)

// Handler serves the AuditService.
type Handler struct{ service *Service }

// NewHandler serves s.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// asked is what every request that filters has.
type asked interface {
	GetActor() string
	GetAction() string
	GetOutcome() tollgatev1.Outcome
	GetResource() string
	GetReason() string
	GetAddress() string
	GetSessionId() string
	GetApiKeyId() string
	GetRequestId() string
	GetRecordedBy() string
}

func filterOf(r asked) (Filter, error) {
	network, err := ParseNetwork(r.GetAddress())
	return Filter{
		Actor: r.GetActor(), Action: r.GetAction(), Outcome: outcomes.Text(r.GetOutcome()), Resource: r.GetResource(),
		Reason: r.GetReason(), Network: network, SessionID: r.GetSessionId(), APIKeyID: r.GetApiKeyId(),
		RequestID: r.GetRequestId(), RecordedBy: r.GetRecordedBy(),
	}, err
}

// ListEvents implements AuditService.
func (h *Handler) ListEvents(ctx context.Context, r *tollgatev1.ListEventsRequest) (*tollgatev1.ListEventsResponse, error) {
	filter, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	if filter.After, err = protoconv.Time("after", r.After); err != nil {
		return nil, err
	}
	if filter.Before, err = protoconv.Time("before", r.Before); err != nil {
		return nil, err
	}
	events, next, err := h.service.List(ctx, filter, r.PageSize, r.PageToken)
	if err != nil {
		return nil, err
	}
	response := &tollgatev1.ListEventsResponse{NextPageToken: next, Events: make([]*tollgatev1.Event, len(events))}
	for i := range events {
		response.Events[i] = eventProto(&events[i])
	}
	return response, nil
}

// GetEvent implements AuditService.
func (h *Handler) GetEvent(ctx context.Context, r *tollgatev1.GetEventRequest) (*tollgatev1.GetEventResponse, error) {
	e, err := h.service.Get(ctx, r.Id)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetEventResponse{Event: eventProto(&e)}, nil
}

// GetSummary implements AuditService.
func (h *Handler) GetSummary(ctx context.Context, r *tollgatev1.GetSummaryRequest) (*tollgatev1.GetSummaryResponse, error) {
	filter, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	if filter.After, err = protoconv.Time("after", r.After); err != nil {
		return nil, err
	}
	if filter.Before, err = protoconv.Time("before", r.Before); err != nil {
		return nil, err
	}
	by := Hourly
	if r.Bucket == tollgatev1.SummaryBucket_SUMMARY_BUCKET_DAY {
		by = Daily
	}
	summary, err := h.service.Summary(ctx, filter, by)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetSummaryResponse{
		After: protoconv.Timestamp(summary.After), Before: protoconv.Timestamp(summary.Before),
		Counts: protoconv.List(summary.Counts, func(c Count) *tollgatev1.SummaryCount {
			return &tollgatev1.SummaryCount{
				Time: protoconv.Timestamp(c.Time), Action: string(c.Action), Outcome: outcomes.Proto(c.Outcome), Count: c.Events,
			}
		}),
	}, nil
}

// RecordEvent implements AuditService.
func (h *Handler) RecordEvent(ctx context.Context, r *tollgatev1.RecordEventRequest) (*tollgatev1.RecordEventResponse, error) {
	e, err := h.service.recordFromService(ctx, reportedEvent(r))
	if err != nil {
		return nil, err
	}
	return &tollgatev1.RecordEventResponse{Event: eventProto(&e)}, nil
}

// RecordEvents implements AuditService.
func (h *Handler) RecordEvents(ctx context.Context, r *tollgatev1.RecordEventsRequest) (*tollgatev1.RecordEventsResponse, error) {
	events := make([]Event, len(r.Events))
	for i, e := range r.Events {
		events[i] = reportedEvent(e)
	}
	if err := h.service.recordAllFromService(ctx, events); err != nil {
		return nil, err
	}
	response := &tollgatev1.RecordEventsResponse{Ids: make([]string, len(events))}
	for i := range events {
		response.Ids[i] = events[i].ID
	}
	return response, nil
}

func reportedEvent(r *tollgatev1.RecordEventRequest) Event {
	return Event{
		ActorID: r.GetActor().GetUserId(), ActorName: r.GetActor().GetUsername(),
		SessionID: r.GetActor().GetSessionId(), APIKeyID: r.GetActor().GetApiKeyId(),
		Action: Action(r.GetAction()), Outcome: outcomes.Text(r.GetOutcome()), Reason: r.GetReason(), Resource: r.GetResource(),
		IP: r.GetIp(), UserAgent: r.GetUserAgent(), RequestID: r.GetRequestId(), Details: r.GetDetails(),
	}
}

// WatchEvents implements AuditService.
func (h *Handler) WatchEvents(ctx context.Context, r *tollgatev1.WatchEventsRequest, stream *connect.ServerStream[tollgatev1.WatchEventsResponse]) error {
	return h.Watch(ctx, r, stream.Send)
}

// Watch is WatchEvents for any stream. The first message is a keep-alive: it
// says that the watch has begun. When ctx ends, Watch returns its cause.
func (h *Handler) Watch(ctx context.Context, r *tollgatev1.WatchEventsRequest, send func(*tollgatev1.WatchEventsResponse) error) error {
	filter, err := filterOf(r)
	if err != nil {
		return err
	}
	watch, err := h.service.Resume(ctx, filter, r.LastEventId)
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := send(&tollgatev1.WatchEventsResponse{}); err != nil {
		return err
	}
	err = h.service.Missed(ctx, watch, func(e *Event) error {
		return send(&tollgatev1.WatchEventsResponse{Event: eventProto(e)})
	})
	if err != nil {
		return err
	}
	ticker := time.NewTicker(keepAliveEvery)
	defer ticker.Stop()
	for {
		response := &tollgatev1.WatchEventsResponse{}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		case e, open := <-watch.Events():
			if !open {
				return watch.Err()
			}
			response.Event = eventProto(e)
		}
		if err := send(response); err != nil {
			return err
		}
	}
}

// eventProto is the event as the API shows it.
func eventProto(e *Event) *tollgatev1.Event {
	return &tollgatev1.Event{
		Id: e.ID, Time: protoconv.Timestamp(e.Time),
		Actor:  &tollgatev1.Actor{UserId: e.ActorID, Username: e.ActorName, SessionId: e.SessionID, ApiKeyId: e.APIKeyID},
		Action: string(e.Action), Outcome: outcomes.Proto(e.Outcome), Reason: e.Reason, Resource: e.Resource,
		Ip: e.IP, UserAgent: e.UserAgent, RequestId: e.RequestID, Details: e.Details, RecordedBy: e.RecordedBy,
	}
}
