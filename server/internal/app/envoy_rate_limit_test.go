package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	rlcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

type descriptor = rlcommonv3.RateLimitDescriptor

// descriptors is one descriptor with entries, keys and values in turns.
func descriptors(entries ...string) []*descriptor {
	d := &descriptor{}
	for i := 0; i < len(entries); i += 2 {
		d.Entries = append(d.Entries, &rlcommonv3.RateLimitDescriptor_Entry{Key: entries[i], Value: entries[i+1]})
	}
	return []*descriptor{d}
}

// each is several descriptors, each "key=value key=value".
func each(texts ...string) (list []*descriptor) {
	for _, text := range texts {
		var entries []string
		for entry := range strings.FieldsSeq(text) {
			key, value, _ := strings.Cut(entry, "=")
			entries = append(entries, key, value)
		}
		list = append(list, descriptors(entries...)...)
	}
	return list
}

// hits gives the descriptor its own hits_addend.
func hits(n uint64, list []*descriptor) []*descriptor {
	list[0].HitsAddend = wrapperspb.UInt64(n)
	return list
}

func (e *envoyed) limit(t testing.TB, name, subject, permission string, more apitest.Object) {
	t.Helper()
	limit := apitest.Object{"name": name, "subject": "SUBJECT_" + subject, "permission": permission, "rate": 5, "period": "86400s", "algorithm": "ALGORITHM_FIXED_WINDOW"}
	for key, value := range more {
		limit[key] = value
	}
	e.As(e.admin).Post(t, "/v1/limits", limit)
}

// take asks and returns the codes of the descriptors and what remains of each, as
// in "OK 4, OVER_LIMIT 0"; "-" where there is no limit. It checks what holds for
// every answer.
func (e *envoyed) take(t testing.TB, addend uint32, list ...*descriptor) (text string, res *rlsv3.RateLimitResponse) {
	t.Helper()
	res, err := e.ShouldRateLimit(e.keyed(t), &rlsv3.RateLimitRequest{Domain: "shop", Descriptors: list, HitsAddend: addend})
	backendtest.Must(t, err)
	if len(res.GetStatuses()) != len(list) {
		t.Fatalf("%d statuses for %d descriptors", len(res.GetStatuses()), len(list))
	}
	overall := rlsv3.RateLimitResponse_OK
	var texts []string
	for _, s := range res.GetStatuses() {
		switch s.GetCode() {
		case rlsv3.RateLimitResponse_OVER_LIMIT:
			overall = rlsv3.RateLimitResponse_OVER_LIMIT
		case rlsv3.RateLimitResponse_OK:
		default:
			t.Errorf("a status is %s", s.GetCode())
		}
		left := "-"
		if s.GetCurrentLimit() != nil {
			left = fmt.Sprint(s.GetLimitRemaining())
		} else if s.GetDurationUntilReset() != nil || s.GetLimitRemaining() != 0 {
			t.Errorf("no limit, but %v", s)
		}
		texts = append(texts, s.GetCode().String()+" "+left)
	}
	if res.GetOverallCode() != overall {
		t.Errorf("in all %s, want %s: %v", res.GetOverallCode(), overall, texts)
	}
	return strings.Join(texts, ", "), res
}

func responseHeaders(res *rlsv3.RateLimitResponse) map[string]string {
	all := map[string]string{}
	for _, h := range res.GetResponseHeadersToAdd() {
		all[h.GetKey()] = h.GetValue()
	}
	return all
}

func TestShouldRateLimit(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	e.limit(t, "tenants", "CUSTOM", "shop:*", apitest.Object{"contextKey": "tenant"})
	e.limit(t, "users", "USER", "shop:*", apitest.Object{"rate": 3})
	e.limit(t, "addresses", "IP", "shop:*", apitest.Object{"rate": 100, "period": "60s"})
	e.limit(t, "keys", "API_KEY", "other:*", nil)
	e.limit(t, "all", "GLOBAL", "whole:*", apitest.Object{"rate": 1000, "period": "90s"})
	e.limit(t, "watching", "USER", "watched:*", apitest.Object{"rate": 1, "mode": "MODE_SHADOW"})
	for _, step := range []struct {
		what   string
		addend uint32
		list   []*descriptor
		want   string
	}{
		{"by name", 0, each("limit=tenants tenant=acme"), "OK 4"},
		{"another key", 0, each("limit=tenants tenant=other"), "OK 4"},
		{"the keys of entries do not matter", 0, each("tenant=acme limit=tenants"), "OK 3"},
		{"several values", 0, each("limit=tenants tenant=acme plan=free"), "OK 4"},
		{"the same again", 0, each("limit=tenants x=acme y=free"), "OK 3"},
		{"a value that looks like two", 0, each("limit=tenants x=acme|free"), "OK 4"},
		{"values that split elsewhere", 0, each("limit=tenants x=a|b y=c"), "OK 4"},
		{"and here", 0, each("limit=tenants x=a y=b|c"), "OK 4"},
		{"no other entry", 0, each("limit=tenants"), "OK 4"},
		{"a limit that there is not", 0, each("limit=tenant tenant=acme"), "OK -"},
		{"a descriptor that nothing counts", 0, each("generic_key=x"), "OK -"},
		{"the request's hits", 2, each("limit=tenants x=hits"), "OK 3"},
		{"the descriptor's own", 2, hits(3, each("limit=tenants x=hits")), "OK 0"},
		{"as Authorize: the user's", 0, each("permission=shop:read user=u tenant=t1"), "OK 2"},
		{"as Authorize: the address's", 0, each("permission=shop:read remote_address=192.0.2.7 tenant=t2"), "OK 4"},
		{"as Authorize: the key's", 0, each("permission=other:x api_key=k"), "OK 4"},
		{"as Authorize: another permission's", 0, each("permission=none:x user=u api_key=k ip=192.0.2.7"), "OK -"},
		{"all together", 0, each("permission=whole:x"), "OK 999"},
		{"in their order", 0, each("permission=whole:x", "limit=none", "limit=users id=u"), "OK 998, OK -, OK 1"},
		{"one is over, nothing is counted", 0, append(hits(2, each("limit=users id=u")), each("permission=whole:x")...), "OVER_LIMIT 1, OK 998"},
		{"one counter twice", 0, each("limit=users id=u", "permission=shop:read user=u tenant=t3"), "OVER_LIMIT 1, OVER_LIMIT 1"},
		{"none of it was", 0, each("limit=users id=u", "limit=tenants t=t3"), "OK 0, OK 4"},
		{"it is used up", 0, each("limit=users id=u"), "OVER_LIMIT 0"},
		{"a look at what is used up", 0, hits(0, each("limit=users id=u")), "OVER_LIMIT 0"},
		{"a look at what is not", 7, hits(0, each("limit=users id=v")), "OK 3"},
		{"it took nothing", 0, each("limit=users id=v"), "OK 2"},
		{"more than there can be", 0, hits(1<<63, each("limit=users id=v")), "OVER_LIMIT 2"},
		{"much, twice", 0, append(hits(1<<63, each("limit=users id=v")), hits(1<<63, each("limit=users id=v"))...), "OVER_LIMIT 2, OVER_LIMIT 2"},
		{"in shadow mode", 5, each("limit=watching id=u", "permission=watched:x user=u"), "OK -, OK -"},
		{"an address and its other form", 0, each("limit=addresses a=192.0.2.8", "limit=addresses a=::ffff:192.0.2.8"), "OK 98, OK 98"},
		{"a key of any length", 0, each("limit=tenants x=" + strings.Repeat("k", 10_000)), "OK 4"},
	} {
		if got, _ := e.take(t, step.addend, step.list...); got != step.want {
			t.Errorf("%s: %s, want %s", step.what, got, step.want)
		}
	}
}

// TestShouldRateLimitAnswer: what Envoy passes on to the client.
func TestShouldRateLimitAnswer(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	for period, unit := range map[string]rlsv3.RateLimitResponse_RateLimit_Unit{
		"1s": rlsv3.RateLimitResponse_RateLimit_SECOND, "60s": rlsv3.RateLimitResponse_RateLimit_MINUTE, "3600s": rlsv3.RateLimitResponse_RateLimit_HOUR,
		"86400s": rlsv3.RateLimitResponse_RateLimit_DAY, "604800s": rlsv3.RateLimitResponse_RateLimit_WEEK,
		"90s": rlsv3.RateLimitResponse_RateLimit_UNKNOWN, "2592000s": rlsv3.RateLimitResponse_RateLimit_UNKNOWN,
	} {
		e.limit(t, "l"+period, "GLOBAL", "u"+period+":x", apitest.Object{"period": period, "rate": 7, "algorithm": "ALGORITHM_GCRA", "burst": 2})
		_, res := e.take(t, 0, each("permission=u"+period+":x")...)
		s := res.GetStatuses()[0]
		if l := s.GetCurrentLimit(); l.GetName() != "l"+period || l.GetRequestsPerUnit() != 7 || l.GetUnit() != unit || s.GetLimitRemaining() != 1 || s.GetDurationUntilReset().AsDuration() <= 0 {
			t.Errorf("%s: %v", period, s)
		}
	}
	e.limit(t, "narrow", "USER", "shop:*", apitest.Object{"rate": 1, "period": "3600s"})
	_, res := e.take(t, 0, each("limit=narrow u=u", "permission=u60s:x")...)
	if h := responseHeaders(res); !strings.HasPrefix(h["ratelimit"], `"narrow";r=0;t=`) || h["ratelimit-policy"] != `"narrow";q=1` || len(h) != 2 || len(res.GetRawBody()) > 0 {
		t.Errorf("allowed: %v %s", h, res.GetRawBody())
	}
	_, res = e.take(t, 0, each("permission=u1s:x", "limit=narrow u=u")...)
	a := apitest.Answer{Raw: res.GetRawBody()}
	backendtest.Must(t, json.Unmarshal(a.Raw, &a.Body))
	h := responseHeaders(res)
	if a.Reason() != "LIMITED" || h["content-type"] != "application/json" || h["retry-after"] == "" || !strings.HasPrefix(h["ratelimit"], `"narrow";r=0;t=`) || len(h) != 4 {
		t.Errorf("over: %v %s", h, a.Raw)
	}
	if d := res.GetStatuses()[1].GetDurationUntilReset().AsDuration(); d <= 0 || d > time.Hour {
		t.Errorf("reset in %s", d)
	}
	_, res = e.take(t, 9, each("limit=narrow u=v")...)
	if h := responseHeaders(res); h["retry-after"] != "" || h["ratelimit"] == "" {
		t.Errorf("more than ever passes: %v", h)
	}
}

// TestShouldRateLimitRefuses: what cannot be asked is an error, and counts nothing.
func TestShouldRateLimitRefuses(t *testing.T) {
	t.Parallel()
	e := startEnvoy(t)
	e.limit(t, "users", "USER", "shop:*", nil)
	e.limit(t, "everything", "GLOBAL", "*", apitest.Object{"rate": 1_000_000, "period": "60s"})
	fine := each("limit=users id=u")
	negative := hits(1, each("limit=users id=u"))
	negative[0].IsNegativeHits = true
	many := each("limit=users id=u")
	for range 32 {
		many[0].Entries = append(many[0].Entries, &rlcommonv3.RateLimitDescriptor_Entry{Key: "k", Value: "v"})
	}
	var counters []string
	for n := range 100 {
		counters = append(counters, fmt.Sprintf("permission=shop:x user=u%d tenant=t%d", n, n))
	}
	for n := range 2 { // 300 counters, with the users'
		e.limit(t, fmt.Sprintf("tenants-%d", n), "CUSTOM", "shop:*", apitest.Object{"contextKey": "tenant"})
	}
	for name, test := range map[string]struct {
		domain string
		list   []*descriptor
		code   codes.Code
	}{
		"no domain":            {"", fine, codes.InvalidArgument},
		"no descriptors":       {"d", nil, codes.InvalidArgument},
		"101 of them":          {"d", each(append(counters, "limit=users id=u")...), codes.InvalidArgument},
		"no entries":           {"d", []*descriptor{{}}, codes.InvalidArgument},
		"33 entries":           {"d", many, codes.InvalidArgument},
		"two names":            {"d", each("limit=users limit=few id=u"), codes.InvalidArgument},
		"an empty name":        {"d", descriptors("limit", "", "id", "u"), codes.InvalidArgument},
		"an entry twice":       {"d", each("user=u user=v permission=shop:x"), codes.InvalidArgument},
		"two addresses":        {"d", each("ip=192.0.2.1 remote_address=192.0.2.2"), codes.InvalidArgument},
		"no address":           {"d", each("ip=rubbish permission=shop:x"), codes.InvalidArgument},
		"no key":               {"d", descriptors("", "x"), codes.InvalidArgument},
		"negative hits":        {"d", negative, codes.InvalidArgument},
		"Tollgate's own":       {"d", each("permission=tollgate:login user=admin"), codes.InvalidArgument},
		"all of Tollgate's":    {"d", descriptors("permission", "*", "user", "admin"), codes.InvalidArgument},
		"a limit on sign-ins":  {"d", append(each("limit=users id=u"), each("limit=sign-in-per-user u=admin")...), codes.PermissionDenied},
		"a limit on all calls": {"d", each("limit=everything"), codes.PermissionDenied},
		"very many counters":   {"d", each(counters...), codes.FailedPrecondition},
	} {
		_, err := e.ShouldRateLimit(e.keyed(t), &rlsv3.RateLimitRequest{Domain: test.domain, Descriptors: test.list})
		if status.Code(err) != test.code {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
	if got, _ := e.take(t, 0, fine...); got != "OK 4" {
		t.Errorf("afterwards: %s", got)
	}
	a := e.As(e.admin).Post(t, "/v1/limits/check", apitest.Object{"limit": "sign-in-per-user", "key": "admin", "peek": true})
	backendtest.Equal(t, a.Str("status", "remaining"), "100", "what is left of sign-ins")
	if n := e.refusals(t, "action=tollgate.refused&actor=edge"); n != 2 {
		t.Errorf("%d refusals on record, want 2", n)
	}
}

// An administrator's key names them all, an address that is trusted none.
func TestShouldRateLimitOfTollgate(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	config.TrustedProxies = []string{"127.0.0.1"}
	e := dial(t, &proxied{instance: start(t, config, clock.Real())})
	e.limit(t, "users", "USER", "shop:*", nil)
	ask := func(pairs ...string) error {
		_, err := e.ShouldRateLimit(with(t, pairs...), &rlsv3.RateLimitRequest{Domain: "d", Descriptors: each("limit=users id=u", "limit=sign-in-per-ip ip=192.0.2.1")})
		return err
	}
	if err := ask(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("from a trusted address: %v", err)
	}
	key := e.As(e.admin).Post(t, "/v1/api-keys", apitest.Object{"name": "k"}).Str("secret")
	backendtest.Must(t, ask("x-tollgate-key", key))
}

// A limit that is named and there is not: one line a minute, whatever is named.
func TestShouldRateLimitWarns(t *testing.T) {
	t.Parallel()
	var log lines
	clk, fake := fakeClock(time.Now())
	p := &proxied{instance: startLogging(t, testConfig(backendtest.SQLiteURL(t)), clk, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))}
	p.key = p.As(p.admin).NewService(t, "edge")
	e := dial(t, p)
	before := strings.Count(log.String(), "\n")
	for n := range 10 {
		e.take(t, 0, each(fmt.Sprintf("limit=none-%d", n))...)
	}
	fake.Advance(2 * time.Minute)
	e.take(t, 0, each("limit=no;name")...)
	said := log.String()
	if strings.Count(said, "\n")-before != 2 || !strings.Contains(said, `"none-0"`) || strings.Contains(said, "no;name") {
		t.Errorf("the log says %s", said)
	}
}
