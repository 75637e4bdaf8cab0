package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// inTurns is how many users or keys of many are asked about in turns: as many as
// the server's caches keep, and then some are of the first.
const inTurns = 10_000

// small is without what curves do not need.
func (s benchSize) small() benchSize {
	s.cold, s.routes = 0, 0
	return s
}

// curveLoads is how many loads the curves make.
func (b *bench) curveLoads() int {
	return b.rounds*3*len(b.users) + b.pointRounds*(2*len(b.keys)+4*len(b.events))
}

// costs measures operations over Connect on HTTP/1.1 in turns, at one point of a
// curve, and adds a figure of each to its line.
func (b *bench) costs(t *testing.T, m *measured, x float64, rounds int, figure func(sample) float64, lines []line, operations ...operation) {
	t.Helper()
	found := make([]row, len(operations))
	for again := range rounds {
		for i, o := range operations {
			at := m.place(overConnect)
			if o.name == nullOperation.name {
				_, at = b.nullOf(overConnect)
			}
			if b.each == 0 {
				b.sure(t, o, overConnect, at, 1)
			} else {
				found[i].samples = append(found[i].samples, b.load(t, o, overConnect, at, again))
			}
		}
	}
	for i := range found {
		lines[i].points = append(lines[i].points, point{x, max(1, found[i].median(figure))})
	}
}

func cpuMicros(s sample) float64 { return float64(s.cpu) / 1e3 }
func p50Micros(s sample) float64 { return float64(s.p50) / 1e3 }

// byUsers asks about one user and about many, of more and more.
func (b *bench) byUsers(t *testing.T) curve {
	m := newMeasured(t, b.small(), backendtest.SQLiteURL(t), "")
	m.fill(t, func(ctx context.Context, tx *database.Tx) error { return fillRoles(ctx, tx, b.roles) })
	c := curve{
		file: "users.svg", title: "Authorize", x: fmt.Sprintf("users, with %s roles", count(float64(b.roles))), y: "CPU of the server for a call",
		lines: []line{{name: "about one user"}, {name: fmt.Sprintf("about %s in turns", count(inTurns))}, {name: "null"}},
	}
	ask := func(name string, ids ...int) operation {
		list := make([]proto.Message, len(ids))
		for i, id := range ids {
			list[i] = &tollgatev1.AuthorizeRequest{
				Credential: &tollgatev1.AuthorizeRequest_UserId{UserId: userID(id)}, Permission: "orders:read", Resource: "orders/42",
			}
		}
		return operation{name: name, procedure: tollgatev1connect.RolesServiceAuthorizeProcedure, right: allowed(0), messages: func(int) []proto.Message { return list }}
	}
	from := 0
	for _, n := range b.users {
		m.fill(t, func(ctx context.Context, tx *database.Tx) error { return fillUsers(ctx, tx, from, n) })
		from = n
		some := rand.Perm(n)[:min(n, inTurns)]
		for i := range some {
			some[i]++
		}
		of := fmt.Sprintf(" of %s users", count(float64(n)))
		many := ask("Authorize about many"+of, some...)
		b.sure(t, many, overConnect, m.place(overConnect), 1) // they are in the caches
		b.costs(t, m, float64(n), b.rounds, cpuMicros, c.lines, ask("Authorize about one"+of, n), many, nullOperation)
	}
	return c
}

// byKeys counts under keys of a limit that has more and more.
func (b *bench) byKeys(t *testing.T) curve {
	c := curve{file: "keys.svg", title: "CheckLimit", x: "keys of the limit", y: "CPU of the server for a call"}
	servers := []struct {
		name string
		m    *measured
	}{
		{"in memory", newMeasured(t, b.small(), backendtest.SQLiteURL(t), "")},
		{"on Redis", newMeasured(t, b.small(), backendtest.SQLiteURL(t), backendtest.EmptyRedisURL(t))},
	}
	for _, s := range servers {
		l := []line{{name: s.name}}
		from := 0
		for _, n := range b.keys {
			b.countKeys(t, s.m, from, n)
			from = n
			var list []proto.Message
			for _, i := range rand.Perm(n)[:min(n, inTurns)] {
				list = append(list, &tollgatev1.CheckLimitRequest{Limit: "spread", Key: keyName(i)})
			}
			b.costs(t, s.m, float64(n), b.pointRounds, cpuMicros, l, operation{
				name: fmt.Sprintf("CheckLimit %s, %s keys", s.name, count(float64(n))), procedure: tollgatev1connect.LimitsServiceCheckLimitProcedure,
				messages: func(int) []proto.Message { return list },
				right: func(answer proto.Message) error {
					a := answer.(*tollgatev1.CheckLimitResponse)
					return must(a.GetAllowed() && a.GetStatus().GetRemaining() < spreadRate*3/4, a) // it was counted before
				},
			})
		}
		c.lines = append(c.lines, l...)
	}
	return c
}

func keyName(i int) string { return fmt.Sprintf("tenant-%d", i) }

// countKeys counts half of what is allowed under keys, so that they are kept. What
// Redis did not count in time is sent again.
func (b *bench) countKeys(t *testing.T, m *measured, from, to int) {
	t.Helper()
	const atOnce = 100
	shared(8, (to-from+atOnce-1)/atOnce, func(part int) {
		var left []*tollgatev1.AuthorizeRequest
		for i := from + part*atOnce; i < min(to, from+(part+1)*atOnce); i++ {
			left = append(left, &tollgatev1.AuthorizeRequest{
				Credential: &tollgatev1.AuthorizeRequest_UserId{UserId: m.alice}, Permission: "spread:read",
				Context: map[string]string{"tenant": keyName(i)}, Cost: spreadRate / 2,
			})
		}
		late := time.Now().Add(apitest.Timeout)
		for len(left) > 0 && b.ctx.Err() == nil {
			var answer tollgatev1.BatchAuthorizeResponse
			r, err := prepareConnect(tollgatev1connect.RolesServiceBatchAuthorizeProcedure, &tollgatev1.BatchAuthorizeRequest{Requests: left})
			r.header = append(r.header, "Authorization", "Bearer "+m.key)
			if err == nil {
				var res *http.Response
				var body []byte
				if res, body, err = r.send(b.ctx, b.http1, hostOf(m.URL)); err == nil {
					err = readProto(res, body, &answer)
				}
			}
			if err != nil || time.Now().After(late) {
				t.Errorf("count under keys: %v", err)
				return
			}
			var again []*tollgatev1.AuthorizeRequest
			for i, decision := range answer.GetResponses() {
				if !decision.GetAllowed() {
					again = append(again, left[i])
				}
			}
			left = again
		}
	})
	if b.ctx.Err() != nil || t.Failed() {
		t.FailNow()
	}
}

// byEvents lists the audit log as it grows.
func (b *bench) byEvents(t *testing.T) curve {
	c := curve{file: "events.svg", title: "Listing 50 audit events", x: "events", y: "median time, one caller"}
	for _, on := range []struct{ name, database string }{
		{"SQLite", backendtest.SQLiteURL(t)}, {"PostgreSQL", backendtest.PostgreSQLURL(t)},
	} {
		m := newMeasured(t, b.small(), on.database, "")
		lines := []line{{name: on.name + ", of an actor"}, {name: on.name + ", from the middle"}}
		from := 0
		for _, n := range b.events {
			m.fill(t, func(ctx context.Context, tx *database.Tx) error { return fillEvents(ctx, tx, from, n) })
			from = n
			list := func(what string, r *tollgatev1.ListEventsRequest) operation {
				return operation{
					name: fmt.Sprintf("ListEvents %s, %s of %s", strings.ToLower(on.name), what, count(float64(n))), callers: 1,
					procedure: tollgatev1connect.AuditServiceListEventsProcedure, messages: always(r),
					right: func(answer proto.Message) error {
						a := answer.(*tollgatev1.ListEventsResponse)
						return must(len(a.GetEvents()) == min(50, n/100) || r.GetActor() == "" && len(a.GetEvents()) == min(50, n/2), len(a.GetEvents()))
					},
				}
			}
			half := timestamppb.New(eventsBegan.Add(time.Duration(n/2) * time.Second))
			b.costs(t, m, float64(n), b.pointRounds, p50Micros, lines,
				list("of an actor", &tollgatev1.ListEventsRequest{Actor: "actor-7"}), list("from the middle", &tollgatev1.ListEventsRequest{Before: half}))
		}
		c.lines = append(c.lines, lines...)
	}
	return c
}
