package access

import (
	"cmp"
	"context"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/routes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// normalRole is a role in the form that the server keeps.
func normalRole(m *tollgatev1.CreateRoleRequest) *tollgatev1.CreateRoleRequest {
	m = proto.CloneOf(m)
	m.Permissions, m.Inherits = perm.Tidy(m.GetPermissions()), perm.Tidy(m.GetInherits())
	for _, g := range m.GetGrants() {
		if g.GetEffect() == tollgatev1.Effect_EFFECT_UNSPECIFIED {
			g.Effect = tollgatev1.Effect_EFFECT_ALLOW
		}
	}
	return m
}

// normalRoute is a route in the form that the server keeps.
func normalRoute(m *tollgatev1.CreateRouteRequest) (*tollgatev1.CreateRouteRequest, error) {
	r, err := routes.Route{
		Name: m.GetName(), Description: m.GetDescription(), Host: m.GetHost(), Methods: m.GetMethods(), Path: m.GetPath(), Permission: m.GetPermission(),
		Authenticated: m.GetAuthenticated(), Public: m.GetPublic(), Resource: m.GetResource(), Cost: m.GetCost(), Upstream: m.GetUpstream(), Context: m.GetContext(),
	}.Normal()
	if err != nil {
		return nil, err
	}
	m = proto.CloneOf(m)
	m.Host, m.Methods, m.Path, m.Upstream = r.Host, r.Methods, r.Path, r.Upstream
	return m, nil
}

// normalRecording is a recording with what its fields mean when they are not set.
func normalRecording(m *tollgatev1.CreateRecordingRequest) *tollgatev1.CreateRecordingRequest {
	m = proto.CloneOf(m)
	m.Sample = cmp.Or(m.GetSample(), allCalls)
	return m
}

// allCalls is the sample that has every call.
const allCalls = 1_000_000

// defaultLease is the lease_time of a limit with lease and without one.
const defaultLease = 100_000_000 // ns

// normalLimit is a limit with what its fields mean when they are not set. Users in the
// keys of overrides are named as users says.
func normalLimit(ctx context.Context, m *tollgatev1.CreateLimitRequest, users *users) (*tollgatev1.CreateLimitRequest, error) {
	m = proto.CloneOf(m)
	m.Permission = cmp.Or(m.GetPermission(), "*")
	m.Algorithm = cmp.Or(m.GetAlgorithm(), tollgatev1.Algorithm_ALGORITHM_GCRA)
	m.Mode = cmp.Or(m.GetMode(), tollgatev1.Mode_MODE_ENFORCE)
	m.Outage = cmp.Or(m.GetOutage(), tollgatev1.Outage_OUTAGE_LOCAL)
	if m.GetAlgorithm() == tollgatev1.Algorithm_ALGORITHM_CALENDAR {
		m.Period = nil
		m.TimeZone = cmp.Or(m.GetTimeZone(), "UTC")
	} else {
		m.Calendar, m.TimeZone = 0, ""
	}
	switch {
	case !m.GetLease():
		m.LeaseTime = nil
	case m.GetLeaseTime() == nil:
		m.LeaseTime = durationpb.New(defaultLease)
	}
	m.Burst = burst(m, m.GetRate(), m.GetBurst())
	for _, o := range m.GetOverrides() {
		o.Burst = burst(m, o.GetRate(), o.GetBurst())
		key, err := overrideKey(ctx, m, o.GetKey(), users)
		if err != nil {
			return nil, err
		}
		o.Key = key
	}
	slices.SortStableFunc(m.Overrides, func(a, b *tollgatev1.Override) int { return cmp.Compare(a.GetKey(), b.GetKey()) })
	return m, nil
}

// burst is how many calls pass at once; 0 where that is always the rate.
func burst(m *tollgatev1.CreateLimitRequest, rate, burst int64) int64 {
	switch m.GetAlgorithm() {
	case tollgatev1.Algorithm_ALGORITHM_GCRA, tollgatev1.Algorithm_ALGORITHM_BACKOFF:
		return cmp.Or(burst, rate)
	}
	return 0
}

// overrideKey is a key in the form that the server keeps, but with a user's name for
// their id. A limit that counts sign-ins and other calls has both for one user: there
// they are not the same.
func overrideKey(ctx context.Context, m *tollgatev1.CreateLimitRequest, key string, users *users) (string, error) {
	subject := limits.Subject(protoyaml.EnumName(m.GetSubject()))
	if canonical, ok := subject.OverrideKey(key); ok { // what is no key is the server's to refuse
		key = canonical
	}
	if subject != limits.SubjectUser && subject != limits.SubjectUserIP || m.GetPermission() != "tollgate:login" &&
		m.GetPermission() != limits.SecondFactor && (perm.Covers(m.GetPermission(), "tollgate:login") || perm.Covers(m.GetPermission(), limits.SecondFactor)) {
		return key, nil
	}
	user, address := key, ""
	if at := strings.LastIndexByte(key, '@'); subject == limits.SubjectUserIP && at > 0 {
		user, address = key[:at], key[at:]
	}
	name, err := users.name(ctx, user)
	return name + address, err
}
