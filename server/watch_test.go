package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// watcher is a stream of events over one protocol. Its context ends a wait that
// takes too long.
type watcher struct {
	next func() (*event, error) // nil and an error at the stream's end
}

type event struct{ action, resource string }

// watchAll opens a watch over each protocol, by its name, with a token each. It
// returns when they have begun.
func (s *tollgate) watchAll(t *testing.T, ctx context.Context, token func() string) map[string]watcher {
	t.Helper()
	all := map[string]watcher{"Server-Sent Events": s.watchSSE(t, ctx, token(), "")}
	for _, p := range protocols {
		if p.name != "Connect GET" { // streams have none
			all[p.name] = s.watchRPC(t, ctx, p, token())
		}
	}
	return all
}

func (s *tollgate) watchRPC(t *testing.T, ctx context.Context, p protocol, token string) watcher {
	t.Helper()
	client := tollgatev1connect.NewAuditServiceClient(h2c(t), s.URL, p.with(token))
	stream, err := client.WatchEvents(ctx, &tollgatev1.WatchEventsRequest{Action: "role.*"})
	backendtest.Must(t, err)
	if !stream.Receive() || stream.Msg().Event != nil {
		t.Fatalf("the watch did not begin: %v, %v", stream.Msg(), stream.Err())
	}
	return watcher{func() (*event, error) {
		for stream.Receive() {
			if e := stream.Msg().GetEvent(); e != nil {
				return &event{e.Action, e.Resource}, nil
			}
		}
		if stream.Err() == nil {
			return nil, fmt.Errorf("ended without an error")
		}
		return nil, stream.Err()
	}}
}

func (s *tollgate) watchSSE(t *testing.T, ctx context.Context, token, lastEventID string) watcher {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v1/audit/events/watch?action=role.*", nil)
	backendtest.Must(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	res, err := http.DefaultClient.Do(req)
	backendtest.Must(t, err)
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("watching answered %s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || lines.Text() != ": watching" {
		t.Fatalf("the watch did not begin: %q, %v", lines.Text(), lines.Err())
	}
	return watcher{func() (*event, error) {
		kind := ""
		for lines.Scan() {
			if name, found := strings.CutPrefix(lines.Text(), "event: "); found {
				kind = name
			}
			data, found := strings.CutPrefix(lines.Text(), "data: ")
			if !found {
				continue
			}
			var e struct{ Action, Resource, Code, Message string }
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Errorf("data %q: %v", data, err)
			}
			if kind == "error" {
				var code connect.Code
				if err := code.UnmarshalText([]byte(e.Code)); err != nil {
					t.Errorf("code %q: %v", e.Code, err)
				}
				return nil, connect.NewError(code, fmt.Errorf("%s", e.Message))
			}
			return &event{e.Action, e.Resource}, nil
		}
		return nil, fmt.Errorf("ended without an error: %w", lines.Err())
	}}
}

// TestWatch checks that a watcher gets the events after its start, and none
// once its session is revoked.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	id := s.NewUser(t, "mia", "a password of mia", "auditor")
	ctx, cancel := context.WithTimeout(t.Context(), apitest.Timeout)
	defer cancel()
	watchers := s.watchAll(t, ctx, func() string { return s.Login(t, "mia", "a password of mia").Str("accessToken") })
	s.Post(t, "/v1/roles", object{"name": "clerk"})
	s.Call(t, "DELETE", "/v1/roles/clerk", nil).Want(t, http.StatusOK)
	for name, w := range watchers {
		for _, action := range []string{"role.create", "role.delete"} {
			e, err := w.next()
			if err != nil || *e != (event{action, "roles/clerk"}) {
				t.Fatalf("%s: got %v, %v; want %s", name, e, err, action)
			}
		}
	}
	s.Call(t, "DELETE", "/v1/users/"+id+"/sessions", nil).Want(t, http.StatusOK)
	for name, w := range watchers {
		if e, err := w.next(); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: after the session's end: %v, %v", name, e, err)
		}
	}
}

// A client that reconnects with the last event it has gets every later one that
// its filter lets through, once, and then what happens.
func TestWatchResumes(t *testing.T) {
	s := serveAdmin(t)
	ctx, cancel := context.WithTimeout(t.Context(), apitest.Timeout)
	defer cancel()
	for _, name := range []string{"a", "b", "c"} {
		s.Post(t, "/v1/roles", object{"name": name})
		s.Post(t, "/v1/users", object{"username": name})
	}
	ids := map[string]string{}
	for _, e := range s.Events(t, "action=role.create") {
		ids[e["resource"].(string)] = e["id"].(string)
	}
	w := s.watchSSE(t, ctx, s.Token, ids["roles/a"])
	s.Post(t, "/v1/roles", object{"name": "d"})
	for _, resource := range []string{"roles/b", "roles/c", "roles/d"} {
		if e, err := w.next(); err != nil || *e != (event{"role.create", resource}) {
			t.Fatalf("got %v, %v; want %s", e, err, resource)
		}
	}
	a := s.Call(t, "GET", "/v1/audit/events/watch", nil, "Last-Event-ID", "none of ours").Want(t, http.StatusBadRequest)
	if a.Reason() != "LAST_EVENT_UNKNOWN" {
		t.Errorf("an unknown last event: %s", a.Raw)
	}
}

func TestWatchNeedsPermission(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	s.NewUser(t, "mia", "a password of mia")
	mia := s.SignedIn(t, "mia", "a password of mia")
	const path = "/v1/audit/events/watch"
	s.As("").Call(t, "GET", path, nil).Want(t, http.StatusUnauthorized)
	mia.Call(t, "GET", path, nil).Want(t, http.StatusForbidden)
	s.Call(t, "GET", path+"?before=2030-01-01T00:00:00Z", nil).Want(t, http.StatusBadRequest)
	s.Call(t, "GET", path+"?outcome=fine", nil).Want(t, http.StatusBadRequest)
	for _, method := range []string{"POST", "HEAD", "DELETE"} {
		a := s.Call(t, method, path, nil).Want(t, http.StatusMethodNotAllowed)
		if a.Header.Get("Allow") != "GET" {
			t.Errorf("Allow: %q", a.Header.Get("Allow"))
		}
	}
}

// TestWatchEndsWithServer checks that a server that stops ends its watches with
// unavailable and does not wait for the watchers.
func TestWatchEndsWithServer(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	ctx, cancel := context.WithTimeout(t.Context(), apitest.Timeout)
	defer cancel()
	watchers := s.watchAll(t, ctx, func() string { return s.Token })
	s.signal(t, syscall.SIGTERM)
	for name, w := range watchers {
		if e, err := w.next(); connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("%s: %v, %v; want unavailable", name, e, err)
		}
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
