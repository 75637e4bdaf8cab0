package sdktest

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

func (h handler) Authorize(_ context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
	if message := h.server.badPermission(req); message != "" {
		return nil, refuse(connect.CodeInvalidArgument, "INVALID_FIELD", "permission: "+message)
	}
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	return h.server.decide(req), nil
}

func (h handler) BatchAuthorize(_ context.Context, req *tollgatev1.BatchAuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error) {
	for i, one := range req.GetRequests() {
		if message := h.server.badPermission(one); message != "" {
			return nil, refuse(connect.CodeInvalidArgument, "INVALID_FIELD", fmt.Sprintf("requests[%d].permission: %s", i, message))
		}
	}
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	res := &tollgatev1.BatchAuthorizeResponse{}
	for _, one := range req.GetRequests() {
		res.Responses = append(res.Responses, h.server.decide(one))
	}
	return res, nil
}

// permissionPattern returns the contract's.
func permissionPattern() *regexp.Regexp {
	field := (&tollgatev1.AuthorizeRequest{}).ProtoReflect().Descriptor().Fields().ByName("permission")
	rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	return regexp.MustCompile(rules.GetString().GetPattern())
}

// badPermission returns what is wrong with the permission of a request, which the
// server refuses.
func (s *Server) badPermission(req *tollgatev1.AuthorizeRequest) string {
	named := asked(req)
	if len(named) == 0 && !req.GetAuthenticated() && !req.GetSelfOnly() {
		return "must not be empty, unless any_of, all_of, authenticated or self_only is set"
	}
	for _, p := range named {
		switch {
		case strings.HasPrefix(p, "tollgate:"):
			return "must be one of your own: Tollgate decides about its own API (tollgate:…) by itself"
		case !s.permission.MatchString(p):
			return `must name one permission, such as "orders:read"`
		}
	}
	return ""
}

// asked are the permissions that a request names.
func asked(req *tollgatev1.AuthorizeRequest) []string {
	named := slices.Concat(req.GetAnyOf(), req.GetAllOf())
	if req.GetPermission() != "" {
		named = append(named, req.GetPermission())
	}
	return named
}

// may says why the caller may not, as the roles and the scopes have it: OK when the
// caller may; and by which grant.
func (s *Server) may(who *tollgatev1.Principal, req *tollgatev1.AuthorizeRequest) (first tollgatev1.Reason, by string) {
	first = tollgatev1.Reason_REASON_PERMISSION_MISSING
	for i, p := range asked(req) {
		reason, grant := s.judge(who, req, p)
		if reason == tollgatev1.Reason_REASON_OK && len(who.GetScopes()) > 0 && !anyMatch(who.GetScopes(), p) {
			reason = tollgatev1.Reason_REASON_SCOPE_MISSING
		}
		if i == 0 {
			first, by = reason, grant
		}
		if (reason == tollgatev1.Reason_REASON_OK) == (len(req.GetAnyOf()) > 0) {
			return reason, grant
		}
	}
	return first, by
}

// decide verifies, counts and checks the permission, in this order. The lock
// is held.
func (s *Server) decide(req *tollgatev1.AuthorizeRequest) *tollgatev1.AuthorizeResponse {
	who, reason := s.verify(req.GetAccessToken()+req.GetApiKey(), req.GetUserId(), s.audience)
	res := &tollgatev1.AuthorizeResponse{Reason: reason, Principal: who, Revision: s.revision}
	if reason == tollgatev1.Reason_REASON_OK {
		res.GoodFor = s.goodFor(who)
	}
	key := who.GetUserId()
	if who == nil {
		key = req.GetClient().GetIp()
	}
	names := asked(req)
	if len(names) == 0 {
		names = []string{"authenticated"}
	}
	over := !req.GetRecheck() && s.count(res, names, key, max(req.GetCost(), 1), req.GetIdempotencyKey())
	own := who.GetApiKeyId() == "" && who.GetUserId() != "" && who.GetUserId() == req.GetSelf() &&
		(!req.GetSelfOnly() || who.GetKind() == tollgatev1.UserKind_USER_KIND_PERSON)
	switch {
	case over:
		res.Reason = tollgatev1.Reason_REASON_LIMITED
	case reason != tollgatev1.Reason_REASON_OK:
	case own, req.GetAuthenticated() && !req.GetSelfOnly():
		res.Allowed = true
	case req.GetSelfOnly():
		res.Reason = tollgatev1.Reason_REASON_SELF_ONLY
	default:
		res.Reason, res.Grant = s.may(who, req)
		res.Allowed = res.Reason == tollgatev1.Reason_REASON_OK
	}
	s.decisions = append(s.decisions, Decision{Request: req, Response: res})
	return res
}

// count counts the call against every limit of its permissions, or against none
// when one refuses; a call that was counted under the same idempotency key passes.
func (s *Server) count(res *tollgatev1.AuthorizeResponse, permissions []string, key string, cost int64, idempotencyKey string) (over bool) {
	var applied []string
	call := fmt.Sprint(idempotencyKey, permissions, key, cost)
	again := s.once[call]
	for _, name := range slices.Sorted(maps.Keys(s.limits)) {
		l := s.limits[name]
		if l.Permission == "" || !slices.ContainsFunc(permissions, func(p string) bool { return anyMatch([]string{l.Permission}, p) }) {
			continue
		}
		applied = append(applied, name)
		if !again && s.used[counter{name, key}]+cost > l.Calls {
			over = true
			if l.RetryAfter > res.GetRetryAfter().AsDuration() {
				res.RetryAfter = durationpb.New(l.RetryAfter)
			}
		}
	}
	for _, name := range applied {
		c := counter{name, key}
		exceeded := !again && s.used[c]+cost > s.limits[name].Calls
		if !over && !again {
			s.used[c] += cost
		}
		res.Limits = append(res.Limits, s.status(c, exceeded))
	}
	slices.SortStableFunc(res.Limits, func(a, b *tollgatev1.LimitStatus) int { return int(a.GetRemaining() - b.GetRemaining()) })
	if idempotencyKey != "" && !over {
		s.once[call] = true
	}
	return over
}

func (s *Server) status(c counter, exceeded bool) *tollgatev1.LimitStatus {
	l := s.limits[c.limit]
	return &tollgatev1.LimitStatus{
		Name: l.Name, Limit: l.Calls, Remaining: max(l.Calls-s.used[c], 0),
		Reset_: durationpb.New(l.RetryAfter), Exceeded: exceeded,
	}
}

func (h handler) CheckLimit(_ context.Context, req *tollgatev1.CheckLimitRequest) (*tollgatev1.CheckLimitResponse, error) {
	s := h.server
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.limits[req.GetLimit()]
	if !known {
		return nil, refuse(connect.CodeNotFound, "LIMIT_NOT_FOUND", "there is no limit "+req.GetLimit())
	}
	c, cost := counter{l.Name, req.GetKey()}, max(req.GetCost(), 1)
	call := fmt.Sprint(req.GetIdempotencyKey(), c, cost)
	again := s.once[call] && !req.GetPeek()
	res := &tollgatev1.CheckLimitResponse{Allowed: again || s.used[c]+cost <= l.Calls}
	switch {
	case again:
	case res.GetAllowed() && !req.GetPeek():
		s.used[c] += cost
		if req.GetIdempotencyKey() != "" {
			s.once[call] = true
		}
	case !res.GetAllowed() && l.RetryAfter > 0:
		res.RetryAfter = durationpb.New(l.RetryAfter)
	}
	res.Status = s.status(c, !res.GetAllowed())
	return res, nil
}

func (h handler) RecordEvent(_ context.Context, req *tollgatev1.RecordEventRequest) (*tollgatev1.RecordEventResponse, error) {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	h.server.events = append(h.server.events, req)
	return &tollgatev1.RecordEventResponse{Event: &tollgatev1.Event{Action: req.GetAction(), Outcome: req.GetOutcome()}}, nil
}

func (h handler) RecordEvents(_ context.Context, req *tollgatev1.RecordEventsRequest) (*tollgatev1.RecordEventsResponse, error) {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	h.server.events = append(h.server.events, req.GetEvents()...)
	return &tollgatev1.RecordEventsResponse{Ids: make([]string, len(req.GetEvents()))}, nil
}
