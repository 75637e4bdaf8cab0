package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// whole has the RPCs that other packages serve, too.
type whole struct {
	*Handler
	others
}

type others struct {
	tollgatev1connect.UnimplementedAuditServiceHandler
}

func TestRPCs(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, _ *clock.Fake) {
		run(t, s)
		_, handler := tollgatev1connect.NewAuditServiceHandler(whole{Handler: NewHandler(s)})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := caller.With(r.Context(), caller.Caller{Principal: &caller.Principal{UserID: "svc"}})
			handler.ServeHTTP(w, r.WithContext(ctx))
		}))
		t.Cleanup(server.Close)
		client := tollgatev1connect.NewAuditServiceClient(server.Client(), server.URL)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()

		watch, err := client.WatchEvents(ctx, &tollgatev1.WatchEventsRequest{Action: "order.*"})
		backendtest.Must(t, err)
		defer watch.Close()
		if !watch.Receive() || watch.Msg().Event != nil {
			t.Fatalf("the first message is %v, want a keep-alive; %v", watch.Msg(), watch.Err())
		}
		var recorded []*tollgatev1.Event
		for i, outcome := range []tollgatev1.Outcome{
			tollgatev1.Outcome_OUTCOME_SUCCESS, tollgatev1.Outcome_OUTCOME_DENIED, tollgatev1.Outcome_OUTCOME_FAILURE,
		} {
			response, err := client.RecordEvent(ctx, &tollgatev1.RecordEventRequest{
				Actor:  &tollgatev1.Actor{UserId: "u1", Username: "anna", SessionId: "s1", ApiKeyId: "k1"},
				Action: "order.cancel", Outcome: outcome, Reason: "because", Resource: fmt.Sprint("orders/", i),
				Ip: "192.0.2.1", UserAgent: "curl", RequestId: "r1", Details: map[string]string{"k": "v"},
			})
			backendtest.Must(t, err)
			recorded = append(recorded, response.Event)
		}
		want := recorded[1]
		if want.Id == "" || want.RecordedBy != "svc" || !want.Time.AsTime().Equal(start) || want.Outcome != tollgatev1.Outcome_OUTCOME_DENIED ||
			want.Actor.GetUserId() != "u1" || want.Actor.GetUsername() != "anna" || want.Actor.GetSessionId() != "s1" || want.Actor.GetApiKeyId() != "k1" ||
			want.Action != "order.cancel" || want.Reason != "because" || want.Resource != "orders/1" || want.Ip != "192.0.2.1" ||
			want.UserAgent != "curl" || want.RequestId != "r1" || want.Details["k"] != "v" {
			t.Errorf("recorded %v", want)
		}
		for _, e := range recorded {
			if !watch.Receive() || fmt.Sprint(watch.Msg().Event) != fmt.Sprint(e) {
				t.Errorf("watched %v, recorded %v; %v", watch.Msg(), e, watch.Err())
			}
		}
		listed, err := client.ListEvents(ctx, &tollgatev1.ListEventsRequest{
			Actor: "anna", Action: "order.*", Outcome: tollgatev1.Outcome_OUTCOME_DENIED, Resource: "orders/1",
			After: timestamppb.New(start), Before: timestamppb.New(start.Add(time.Second)),
		})
		if err != nil || len(listed.Events) != 1 || fmt.Sprint(listed.Events[0]) != fmt.Sprint(want) || listed.NextPageToken != "" {
			t.Errorf("listed %v, %v", listed, err)
		}
		listed, err = client.ListEvents(ctx, &tollgatev1.ListEventsRequest{PageSize: 2})
		if err != nil || len(listed.Events) != 2 || listed.NextPageToken == "" {
			t.Fatalf("listed %v, %v", listed, err)
		}
		if n := len(listed.NextPageToken); n > 512 {
			t.Errorf("a page token of %d characters is longer than the contract takes", n)
		}
		listed, err = client.ListEvents(ctx, &tollgatev1.ListEventsRequest{PageSize: 2, PageToken: listed.NextPageToken})
		if err != nil || len(listed.Events) != 1 || listed.NextPageToken != "" {
			t.Errorf("listed %v, %v", listed, err)
		}
	})
}

func TestListEventsRefusesInvalidTimes(t *testing.T) {
	t.Parallel()
	h := NewHandler(nil)
	bad := &timestamppb.Timestamp{Seconds: math.MaxInt64}
	wantFault(t, faulttest.Err(h.ListEvents(t.Context(), &tollgatev1.ListEventsRequest{After: bad})), fault.Invalid, "INVALID_FIELD")
	wantFault(t, faulttest.Err(h.ListEvents(t.Context(), &tollgatev1.ListEventsRequest{Before: bad})), fault.Invalid, "INVALID_FIELD")
}

// fed is a service on synctest's clock whose one watcher is told by the test.
func fed(t *testing.T) (*Handler, func(Event)) {
	t.Helper()
	s := NewService(nil, clock.Real(), page.Tokens{}, nil)
	watchers := make(chan *Subscription, 1)
	go func() {
		w := <-s.joins
		w.joined <- nil
		watchers <- w
	}()
	var w *Subscription
	return NewHandler(s), func(e Event) {
		if w == nil {
			w = <-watchers
		}
		w.events <- &e
		synctest.Wait()
	}
}

func TestWatchKeepAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, tell := fed(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		var sent []string
		began := time.Now()
		go func() {
			ended <- h.Watch(ctx, &tollgatev1.WatchEventsRequest{}, func(r *tollgatev1.WatchEventsResponse) error {
				sent = append(sent, fmt.Sprintf("%s after %s", r.GetEvent().GetResource(), time.Since(began)))
				return nil
			})
		}()
		tell(Event{Resource: "it"})
		<-time.After(31 * time.Second)
		hungUp := errors.New("hung up")
		cancel(hungUp)
		if err := <-ended; !errors.Is(err, hungUp) {
			t.Errorf("ended with %v", err)
		}
		want(t, sent, " after 0s", "it after 0s", " after 15s", " after 30s")
	})
}
