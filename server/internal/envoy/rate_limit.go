package envoy

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

const (
	maxDescriptors = 100
	maxEntries     = 32      // of one descriptor
	maxHits        = 1 << 40 // more than any limit ever allows
)

// limitEntry is the key of the entry that names a limit.
const limitEntry = "limit"

// ShouldRateLimit counts the descriptors, all or nothing over all of them, and
// answers with one status for each, in their order. An entry limit=NAME names a
// limit, and the values of the other entries, with "|" between, are the key;
// without it, user, api_key, ip or remote_address, permission, and context by any
// other name select limits as Authorize does. The error is Invalid,
// BAD_PROXY_REQUEST, for a configuration that cannot be, Denied for a limit that
// covers Tollgate's own API, and else says that nothing could be counted.
func (h *Handler) ShouldRateLimit(ctx context.Context, r *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	descriptors := r.GetDescriptors()
	switch {
	case r.GetDomain() == "":
		return nil, enforce.BadRequest("the domain is empty; any name will do")
	case len(descriptors) == 0 || len(descriptors) > maxDescriptors:
		return nil, enforce.BadRequest("there are %d descriptors; send 1 to %d", len(descriptors), maxDescriptors)
	}
	parts := make([]limits.Part, len(descriptors))
	for i, d := range descriptors {
		var err error
		if parts[i], err = partOf(d, r.GetHitsAddend()); err != nil {
			return nil, err
		}
	}
	results, whole, err := h.Limits.TakeEach(ctx, parts)
	if err != nil {
		return nil, err
	}
	res := &rlsv3.RateLimitResponse{OverallCode: codeOf(whole), Statuses: make([]*rlsv3.RateLimitResponse_DescriptorStatus, len(results))}
	for i, result := range results {
		res.Statuses[i] = statusOf(result)
		if parts[i].Limit != "" && len(result.Limits) == 0 {
			h.missing(ctx, parts[i].Limit)
		}
	}
	header := http.Header{}
	if !whole.Allowed {
		refusal := guard.Refusal(decision.Decision{Reason: caller.ReasonLimited, RetryAfter: whole.RetryAfter}, decision.Rule{})
		wire := fault.Connect(fault.From(refusal), caller.From(ctx).RequestID)
		header.Set("Content-Type", jsonType)
		header.Set("Retry-After", wire.Meta().Get("Retry-After"))
		res.RawBody = fault.NewWire(wire).JSON()
	}
	for _, f := range fields(header, whole.Limits, "Content-Type", "Retry-After") {
		res.ResponseHeadersToAdd = append(res.ResponseHeadersToAdd, &corev3.HeaderValue{Key: f.name, Value: f.value})
	}
	return res, nil
}

// partOf is what a descriptor counts.
func partOf(d *ratelimitv3.RateLimitDescriptor, hits uint32) (limits.Part, error) {
	entries := d.GetEntries()
	switch {
	case len(entries) == 0 || len(entries) > maxEntries:
		return limits.Part{}, enforce.BadRequest("a descriptor has %d entries; send 1 to %d", len(entries), maxEntries)
	case d.GetIsNegativeHits():
		return limits.Part{}, enforce.BadRequest("is_negative_hits: what was counted is not given back; reset the limit instead")
	}
	part := limits.Part{Request: limits.Request{Cost: max(1, int64(hits))}}
	if own := d.GetHitsAddend(); own != nil {
		part.Cost, part.Look = int64(min(own.GetValue(), maxHits)), own.GetValue() == 0
	}
	var values []string
	for _, entry := range entries {
		switch {
		case entry.GetKey() != limitEntry:
			values = append(values, entry.GetValue())
		case part.Limit != "" || entry.GetValue() == "":
			return limits.Part{}, enforce.BadRequest("a descriptor names no limit, or two; send an entry %s=NAME for one", limitEntry)
		default:
			part.Limit = entry.GetValue()
		}
	}
	if part.Limit != "" {
		part.Key = join(values)
		return part, nil
	}
	return part, selects(&part.Request, entries)
}

// join is the key that values make together. A value with what stands between two
// of them is escaped: a client that has a say in one must not reach the key of
// others.
func join(values []string) string {
	for i, value := range values {
		values[i] = escaped.Replace(value)
	}
	return strings.Join(values, "|")
}

var escaped = strings.NewReplacer(`\`, `\\`, `|`, `\|`)

// selects fills in what limits are selected and count by.
func selects(r *limits.Request, entries []*ratelimitv3.RateLimitDescriptor_Entry) error {
	seen := make(map[string]bool, len(entries))
	for _, entry := range entries {
		name, value := entry.GetKey(), entry.GetValue()
		if name == "remote_address" { // as Envoy's own action has it
			name = "ip"
		}
		if name == "" || seen[name] {
			return enforce.BadRequest("a descriptor has an entry without a key, or two with the same; without an entry %s=NAME each says another thing", limitEntry)
		}
		seen[name] = true
		switch name {
		case "user":
			r.UserID = value
		case "api_key":
			r.APIKeyID = value
		case "permission":
			if perm.Own(value) {
				return enforce.BadRequest("permission must be one of your own: Tollgate counts calls of its own API (tollgate:…) by itself")
			}
			r.Permission = value
		case "ip":
			ip, err := netip.ParseAddr(value)
			if err != nil {
				return enforce.BadRequest("ip or remote_address is not an IP address")
			}
			r.IP = ip.Unmap().WithZone("")
		default:
			if r.Context == nil {
				r.Context = map[string]string{}
			}
			r.Context[name] = value
		}
	}
	return nil
}

func codeOf(r limits.Result) rlsv3.RateLimitResponse_Code {
	if r.Allowed {
		return rlsv3.RateLimitResponse_OK
	}
	return rlsv3.RateLimitResponse_OVER_LIMIT
}

// statusOf is where a descriptor stands with the most restrictive of its limits
// that is enforced.
func statusOf(r limits.Result) *rlsv3.RateLimitResponse_DescriptorStatus {
	out := &rlsv3.RateLimitResponse_DescriptorStatus{Code: codeOf(r)}
	if len(r.Limits) > 0 && !r.Limits[0].Shadow { // those in shadow mode come last
		l := r.Limits[0]
		out.CurrentLimit = &rlsv3.RateLimitResponse_RateLimit{Name: l.Name, RequestsPerUnit: uint32(l.Rate), Unit: units[l.Period]}
		out.LimitRemaining, out.DurationUntilReset = uint32(l.Remaining), durationpb.New(l.Reset)
	}
	return out
}

// units are the periods that Envoy has a name for. Months and years are none: they
// are not all of one length.
var units = map[time.Duration]rlsv3.RateLimitResponse_RateLimit_Unit{
	time.Second:        rlsv3.RateLimitResponse_RateLimit_SECOND,
	time.Minute:        rlsv3.RateLimitResponse_RateLimit_MINUTE,
	time.Hour:          rlsv3.RateLimitResponse_RateLimit_HOUR,
	24 * time.Hour:     rlsv3.RateLimitResponse_RateLimit_DAY,
	7 * 24 * time.Hour: rlsv3.RateLimitResponse_RateLimit_WEEK,
}
