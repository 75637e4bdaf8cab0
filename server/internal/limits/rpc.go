package limits

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
	"google.golang.org/protobuf/types/known/durationpb"
)

var (
	subjects   = protoconv.NewEnum[Subject, tollgatev1.Subject](tollgatev1.Subject_name)
	algorithms = protoconv.NewEnum[Algorithm, tollgatev1.Algorithm](tollgatev1.Algorithm_name)
	modes      = protoconv.NewEnum[Mode, tollgatev1.Mode](tollgatev1.Mode_name)
	units      = protoconv.NewEnum[Unit, tollgatev1.Calendar](tollgatev1.Calendar_name)
	outages    = protoconv.NewEnum[Outage, tollgatev1.Outage](tollgatev1.Outage_name)
)

// Handler serves LimitsService.
type Handler struct{ service *Service }

// NewHandler serves the service's limits.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// CreateLimit adds a limit.
func (h *Handler) CreateLimit(ctx context.Context, r *tollgatev1.CreateLimitRequest) (*tollgatev1.CreateLimitResponse, error) {
	l, revision, err := h.service.Create(ctx, Limit{
		Name: r.GetName(), Description: r.GetDescription(), Subject: subjects.Text(r.GetSubject()),
		Permission: r.GetPermission(), Rate: r.GetRate(), Period: r.GetPeriod().AsDuration(), Burst: r.GetBurst(),
		Algorithm: algorithms.Text(r.GetAlgorithm()), Mode: modes.Text(r.GetMode()), Outage: outages.Text(r.GetOutage()),
		ContextKey: r.GetContextKey(), Overrides: protoconv.List(r.GetOverrides(), overrideOf),
		Lease: r.GetLease(), LeaseTime: r.GetLeaseTime().AsDuration(),
		Calendar: units.Text(r.GetCalendar()), TimeZone: r.GetTimeZone(),
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CreateLimitResponse{Limit: limitProto(l), Revision: revision}, nil
}

// ListLimits returns a page of limits.
func (h *Handler) ListLimits(ctx context.Context, r *tollgatev1.ListLimitsRequest) (*tollgatev1.ListLimitsResponse, error) {
	list, next, err := h.service.List(ctx, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListLimitsResponse{Limits: protoconv.List(list, limitProto), NextPageToken: next}, nil
}

// GetLimit returns one limit.
func (h *Handler) GetLimit(ctx context.Context, r *tollgatev1.GetLimitRequest) (*tollgatev1.GetLimitResponse, error) {
	l, err := h.service.Get(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetLimitResponse{Limit: limitProto(l)}, nil
}

// UpdateLimit changes a limit.
func (h *Handler) UpdateLimit(ctx context.Context, r *tollgatev1.UpdateLimitRequest) (*tollgatev1.UpdateLimitResponse, error) {
	edit := Edit{
		Description: r.Description, Permission: r.Permission, Rate: r.Rate, Burst: r.Burst,
		Overrides: protoconv.List(r.GetOverrides(), overrideOf), ClearOverrides: r.GetClearOverrides(),
		Lease: r.Lease, TimeZone: r.TimeZone,
	}
	if r.Calendar != nil {
		edit.Calendar = new(units.Text(r.GetCalendar()))
	}
	if r.Period != nil {
		edit.Period = new(r.GetPeriod().AsDuration())
	}
	if r.LeaseTime != nil {
		edit.LeaseTime = new(r.GetLeaseTime().AsDuration())
	}
	if r.Algorithm != nil {
		edit.Algorithm = new(algorithms.Text(r.GetAlgorithm()))
	}
	if r.Mode != nil {
		edit.Mode = new(modes.Text(r.GetMode()))
	}
	if r.Outage != nil {
		edit.Outage = new(outages.Text(r.GetOutage()))
	}
	l, revision, err := h.service.Update(ctx, r.GetName(), edit)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.UpdateLimitResponse{Limit: limitProto(l), Revision: revision}, nil
}

// DeleteLimit removes a limit.
func (h *Handler) DeleteLimit(ctx context.Context, r *tollgatev1.DeleteLimitRequest) (*tollgatev1.DeleteLimitResponse, error) {
	revision, err := h.service.Delete(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.DeleteLimitResponse{Revision: revision}, nil
}

// CheckLimit counts a call against one limit.
func (h *Handler) CheckLimit(ctx context.Context, r *tollgatev1.CheckLimitRequest) (*tollgatev1.CheckLimitResponse, error) {
	result, err := h.service.CheckOnce(ctx, r.GetLimit(), r.GetKey(), r.GetCost(), r.GetPeek(), caller.From(ctx).Once(r.GetIdempotencyKey()))
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CheckLimitResponse{
		Allowed: result.Allowed, Status: StatusProto(result.Limits[0]), RetryAfter: protoconv.Duration(result.RetryAfter),
	}, nil
}

// LeaseLimit counts calls and leaves them to the caller.
func (h *Handler) LeaseLimit(ctx context.Context, r *tollgatev1.LeaseLimitRequest) (*tollgatev1.LeaseLimitResponse, error) {
	g, err := h.service.Grant(ctx, r.GetLimit(), r.GetKey(), r.GetWant())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.LeaseLimitResponse{
		Granted: g.Granted, ValidFor: protoconv.Duration(g.ValidFor),
		Status: StatusProto(g.Limits[0]), RetryAfter: protoconv.Duration(g.RetryAfter),
	}, nil
}

// Reserve counts what a call is expected to cost.
func (h *Handler) Reserve(ctx context.Context, r *tollgatev1.ReserveRequest) (*tollgatev1.ReserveResponse, error) {
	made, err := h.service.Reserve(ctx, r.GetLimit(), r.GetKey(), r.GetCost())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ReserveResponse{
		Allowed: made.Allowed, ReservationId: made.ID, Status: StatusProto(made.Limits[0]), RetryAfter: protoconv.Duration(made.RetryAfter),
	}, nil
}

// Settle says what a reservation did cost.
func (h *Handler) Settle(ctx context.Context, r *tollgatev1.SettleRequest) (*tollgatev1.SettleResponse, error) {
	status, err := h.service.Settle(ctx, r.GetReservationId(), r.GetCost())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.SettleResponse{Status: StatusProto(status)}, nil
}

// ResetLimit forgets what a limit has counted for one key.
func (h *Handler) ResetLimit(ctx context.Context, r *tollgatev1.ResetLimitRequest) (*tollgatev1.ResetLimitResponse, error) {
	if err := h.service.ResetKey(ctx, r.GetName(), r.GetKey()); err != nil {
		return nil, err
	}
	return &tollgatev1.ResetLimitResponse{}, nil
}

// StatusProto is the status as the API shows it.
func StatusProto(s Status) *tollgatev1.LimitStatus {
	return &tollgatev1.LimitStatus{
		Name: s.Name, Limit: s.Limit, Remaining: s.Remaining, Reset_: durationpb.New(s.Reset),
		Exceeded: s.Exceeded, Shadow: s.Shadow, Leased: s.Leased,
	}
}

func limitProto(l Limit) *tollgatev1.Limit {
	burst := int64(0)
	if l.Algorithm.bursts() {
		burst = l.AtOnce()
	}
	period := durationpb.New(l.Period)
	if l.Algorithm == Calendar {
		period = nil
	}
	return &tollgatev1.Limit{
		Name: l.Name, Description: l.Description, Subject: subjects.Proto(l.Subject), Permission: l.Permission,
		Rate: l.Rate, Period: period, Burst: burst, Algorithm: algorithms.Proto(l.Algorithm),
		Mode: modes.Proto(l.Mode), Outage: outages.Proto(l.Outage), ContextKey: l.ContextKey,
		Overrides: overridesProto(l), Builtin: l.Builtin,
		CreatedAt: protoconv.Timestamp(l.CreatedAt), UpdatedAt: protoconv.Timestamp(l.UpdatedAt),
		Lease: l.Lease, LeaseTime: protoconv.Duration(l.LeaseTime),
		Calendar: units.Proto(l.Calendar), TimeZone: l.TimeZone,
	}
}

func overrideOf(o *tollgatev1.Override) Override {
	return Override{Key: o.GetKey(), Rate: o.GetRate(), Burst: o.GetBurst()}
}

func overridesProto(l Limit) []*tollgatev1.Override {
	return protoconv.List(l.Overrides, func(o Override) *tollgatev1.Override {
		shown := &tollgatev1.Override{Key: o.Key, Rate: o.Rate}
		if l.Algorithm.bursts() {
			shown.Burst = atOnce(l.Algorithm, o.Rate, o.Burst)
		}
		return shown
	})
}
