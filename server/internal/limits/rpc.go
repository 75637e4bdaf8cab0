package limits

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Handler serves LimitsService.
type Handler struct{ service *Service }

// NewHandler serves the service's limits.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// CreateLimit adds a limit.
func (h *Handler) CreateLimit(ctx context.Context, r *tollgatev1.CreateLimitRequest) (*tollgatev1.CreateLimitResponse, error) {
	l, revision, err := h.service.Create(ctx, Limit{
		Name: r.GetName(), Description: r.GetDescription(), Subject: subjectOf(r.GetSubject()),
		Permission: r.GetPermission(), Rate: r.GetRate(), Period: r.GetPeriod().AsDuration(), Burst: r.GetBurst(),
		Algorithm: algorithmOf(r.GetAlgorithm()), Mode: modeOf(r.GetMode()), Outage: outageOf(r.GetOutage()),
		ContextKey: r.GetContextKey(), Overrides: overridesOf(r.GetOverrides()),
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
	response := &tollgatev1.ListLimitsResponse{NextPageToken: next}
	for _, l := range list {
		response.Limits = append(response.Limits, limitProto(l))
	}
	return response, nil
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
		Overrides: overridesOf(r.GetOverrides()), ClearOverrides: r.GetClearOverrides(),
	}
	if r.Period != nil {
		edit.Period = new(r.GetPeriod().AsDuration())
	}
	if r.Algorithm != nil {
		edit.Algorithm = new(algorithmOf(r.GetAlgorithm()))
	}
	if r.Mode != nil {
		edit.Mode = new(modeOf(r.GetMode()))
	}
	if r.Outage != nil {
		edit.Outage = new(outageOf(r.GetOutage()))
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
	result, err := h.service.Check(ctx, r.GetLimit(), r.GetKey(), r.GetCost(), r.GetPeek())
	if err != nil {
		return nil, err
	}
	response := &tollgatev1.CheckLimitResponse{Allowed: result.Allowed, Status: StatusProto(result.Limits[0])}
	if result.RetryAfter > 0 {
		response.RetryAfter = durationpb.New(result.RetryAfter)
	}
	return response, nil
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
		Exceeded: s.Exceeded, Shadow: s.Shadow,
	}
}

func limitProto(l Limit) *tollgatev1.Limit {
	burst := int64(0)
	if l.Algorithm.bursts() {
		burst = l.AtOnce()
	}
	return &tollgatev1.Limit{
		Name: l.Name, Description: l.Description, Subject: subjectProto(l.Subject), Permission: l.Permission,
		Rate: l.Rate, Period: durationpb.New(l.Period), Burst: burst, Algorithm: algorithmProto(l.Algorithm),
		Mode: modeProto(l.Mode), Outage: outageProto(l.Outage), ContextKey: l.ContextKey,
		Overrides: overridesProto(l), Builtin: l.Builtin,
		CreatedAt: timestamppb.New(l.CreatedAt), UpdatedAt: timestamppb.New(l.UpdatedAt),
	}
}

func overridesOf(list []*tollgatev1.Override) []Override {
	var overrides []Override
	for _, o := range list {
		overrides = append(overrides, Override{Key: o.GetKey(), Rate: o.GetRate(), Burst: o.GetBurst()})
	}
	return overrides
}

func overridesProto(l Limit) []*tollgatev1.Override {
	var list []*tollgatev1.Override
	for _, o := range l.Overrides {
		shown := &tollgatev1.Override{Key: o.Key, Rate: o.Rate}
		if l.Algorithm.bursts() {
			shown.Burst = atOnce(l.Algorithm, o.Rate, o.Burst)
		}
		list = append(list, shown)
	}
	return list
}

func subjectOf(s tollgatev1.Subject) Subject {
	switch s {
	case tollgatev1.Subject_SUBJECT_USER:
		return SubjectUser
	case tollgatev1.Subject_SUBJECT_IP:
		return SubjectIP
	case tollgatev1.Subject_SUBJECT_API_KEY:
		return SubjectAPIKey
	case tollgatev1.Subject_SUBJECT_GLOBAL:
		return SubjectGlobal
	case tollgatev1.Subject_SUBJECT_CUSTOM:
		return SubjectCustom
	case tollgatev1.Subject_SUBJECT_USER_IP:
		return SubjectUserIP
	}
	return ""
}

func subjectProto(s Subject) tollgatev1.Subject {
	switch s {
	case SubjectUser:
		return tollgatev1.Subject_SUBJECT_USER
	case SubjectIP:
		return tollgatev1.Subject_SUBJECT_IP
	case SubjectAPIKey:
		return tollgatev1.Subject_SUBJECT_API_KEY
	case SubjectGlobal:
		return tollgatev1.Subject_SUBJECT_GLOBAL
	case SubjectCustom:
		return tollgatev1.Subject_SUBJECT_CUSTOM
	case SubjectUserIP:
		return tollgatev1.Subject_SUBJECT_USER_IP
	}
	return tollgatev1.Subject_SUBJECT_UNSPECIFIED
}

func algorithmOf(a tollgatev1.Algorithm) Algorithm {
	switch a {
	case tollgatev1.Algorithm_ALGORITHM_GCRA:
		return GCRA
	case tollgatev1.Algorithm_ALGORITHM_FIXED_WINDOW:
		return FixedWindow
	case tollgatev1.Algorithm_ALGORITHM_SLIDING_WINDOW:
		return SlidingWindow
	case tollgatev1.Algorithm_ALGORITHM_BACKOFF:
		return Backoff
	}
	return ""
}

func algorithmProto(a Algorithm) tollgatev1.Algorithm {
	switch a {
	case GCRA:
		return tollgatev1.Algorithm_ALGORITHM_GCRA
	case FixedWindow:
		return tollgatev1.Algorithm_ALGORITHM_FIXED_WINDOW
	case SlidingWindow:
		return tollgatev1.Algorithm_ALGORITHM_SLIDING_WINDOW
	case Backoff:
		return tollgatev1.Algorithm_ALGORITHM_BACKOFF
	}
	return tollgatev1.Algorithm_ALGORITHM_UNSPECIFIED
}

func modeOf(m tollgatev1.Mode) Mode {
	switch m {
	case tollgatev1.Mode_MODE_ENFORCE:
		return Enforce
	case tollgatev1.Mode_MODE_SHADOW:
		return Shadow
	}
	return ""
}

func modeProto(m Mode) tollgatev1.Mode {
	if m == Shadow {
		return tollgatev1.Mode_MODE_SHADOW
	}
	return tollgatev1.Mode_MODE_ENFORCE
}

func outageOf(o tollgatev1.Outage) Outage {
	switch o {
	case tollgatev1.Outage_OUTAGE_LOCAL:
		return Local
	case tollgatev1.Outage_OUTAGE_OPEN:
		return Open
	case tollgatev1.Outage_OUTAGE_CLOSED:
		return Closed
	}
	return ""
}

func outageProto(o Outage) tollgatev1.Outage {
	switch o {
	case Open:
		return tollgatev1.Outage_OUTAGE_OPEN
	case Closed:
		return tollgatev1.Outage_OUTAGE_CLOSED
	}
	return tollgatev1.Outage_OUTAGE_LOCAL
}
