package tollgate_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
)

// network is a transport that fails as a test says, and otherwise answers with empty
// messages. Its requests are counted by their path.
type network struct {
	fail func(path string, tries int) error // of the n-th request to a path, from 1; nil: answered

	mu     sync.Mutex
	tries  map[string]int
	bodies []string
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	_, method, _ := strings.Cut(r.URL.Path[1:], "/")
	n.mu.Lock()
	if n.tries == nil {
		n.tries = map[string]int{}
	}
	n.tries[method]++
	tries := n.tries[method]
	n.bodies = append(n.bodies, string(body))
	n.mu.Unlock()
	if err := n.fail(method, tries); err != nil {
		answer, ok := errors.AsType[*answered](err)
		if !ok {
			return nil, err
		}
		return answer.response(r), nil
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/proto"}}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func (n *network) tried(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tries[method]
}

// answered is an error that Tollgate answers with.
type answered struct{ reason, retryAfter string }

func (a *answered) Error() string { return a.reason }

func (a *answered) response(r *http.Request) *http.Response {
	header := http.Header{"Content-Type": {"application/json"}}
	if a.retryAfter != "" {
		header.Set("Retry-After", a.retryAfter)
	}
	body := `{"code":"unavailable","message":"no","details":[{"type":"google.rpc.ErrorInfo","value":"` + errorInfo(a.reason) + `"}]}`
	return &http.Response{StatusCode: 503, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

var (
	errDial  = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	errReset = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
)

func (n *network) client(t testing.TB, opts ...tollgate.Option) *tollgate.Client {
	t.Helper()
	return newClient(t, "http://tollgate.test", append([]tollgate.Option{tollgate.WithHTTPClient(&http.Client{Transport: n})}, opts...)...)
}

// retried are calls by what may be done when they fail.
var retried = []struct {
	method string
	again  bool // also when Tollgate may have got it
	call   func(context.Context, *tollgate.Client) error
}{
	{"Verify", true, func(ctx context.Context, c *tollgate.Client) error { return errorOf(c.Verify(ctx, "alice.token")) }},
	{"Authorize", true, func(ctx context.Context, c *tollgate.Client) error {
		return errorOf(c.Authorize(ctx, about("orders/1")))
	}},
	{"Authorize", true, func(ctx context.Context, c *tollgate.Client) error {
		q := about("orders/1")
		q.Recheck = true
		return errorOf(c.Authorize(ctx, q))
	}},
	{"CheckLimit", true, func(ctx context.Context, c *tollgate.Client) error {
		return errorOf(c.CheckLimit(ctx, tollgate.CheckLimitRequest{Limit: "sms"}))
	}},
	{"CheckLimit", true, func(ctx context.Context, c *tollgate.Client) error {
		return errorOf(c.CheckLimit(ctx, tollgate.CheckLimitRequest{Limit: "sms", Peek: true}))
	}},
	{"GetUser", true, func(ctx context.Context, c *tollgate.Client) error {
		return errorOf(c.Auth().GetUser(ctx, &tollgatev1.GetUserRequest{}))
	}},
	{"RecordEvent", false, func(ctx context.Context, c *tollgate.Client) error { return c.RecordEvent(ctx, tollgate.Event{}) }},
	{"CreateUser", false, func(ctx context.Context, c *tollgate.Client) error {
		return errorOf(c.Auth().CreateUser(ctx, &tollgatev1.CreateUserRequest{}))
	}},
	{"Login", false, func(ctx context.Context, c *tollgate.Client) error {
		return errorOf(c.Auth().Login(ctx, &tollgatev1.LoginRequest{}))
	}},
	{"Authorize", false, func(ctx context.Context, c *tollgate.Client) error { // without a key
		return errorOf(c.Roles().Authorize(ctx, &tollgatev1.AuthorizeRequest{}))
	}},
}

// TestRetries: a call is made again where that cannot do anything twice, and no other.
func TestRetries(t *testing.T) {
	t.Parallel()
	const once, thrice = 1, 3
	for name, test := range map[string]struct {
		err         error
		safe, other int // how often calls are made
		wait        time.Duration
	}{
		"not reached":               {errDial, thrice, thrice, 0},
		"cut off":                   {errReset, thrice, once, 0},
		"cut off in the answer":     {io.ErrUnexpectedEOF, thrice, once, 0},
		"a dependency is down":      {&answered{"DEPENDENCY_DOWN", ""}, thrice, once, 0},
		"overloaded":                {&answered{"OVERLOADED", "3"}, thrice, thrice, 3 * time.Second},
		"stopping":                  {&answered{"DRAINING", "1"}, thrice, thrice, time.Second},
		"says no time":              {&answered{"OVERLOADED", ""}, once, once, 0},
		"longer than the call has":  {&answered{"OVERLOADED", "600"}, once, once, 0},
		"the caller's own deadline": {context.DeadlineExceeded, once, once, 0},
		"not of the network":        {errors.New("tls: bad certificate"), thrice, once, 0},
	} {
		for _, call := range retried {
			t.Run(name+"/"+call.method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := &network{fail: func(string, int) error { return test.err }}
					began := time.Now()
					err := call.call(t.Context(), n.client(t, tollgate.WithTimeout(time.Minute)))
					want := test.other
					if call.again {
						want = test.safe
					}
					if got := n.tried(call.method); got != want || err == nil {
						t.Errorf("made %d times, want %d; error %v", got, want, err)
					}
					least := time.Duration(want-1) * test.wait
					if took := time.Since(began); took < least || took > least+100*time.Millisecond {
						t.Errorf("it took %s, want %s and a little", took, least)
					}
				})
			})
		}
	}
}

// TestRetrySucceeds: the call that is made again is the same one, under the same key,
// and no other call has it.
func TestRetrySucceeds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var keys []string
	f.intercept(func(r *http.Request) (*http.Response, error) {
		res, err := f.next.RoundTrip(r)
		f.recorder.mu.Lock()
		defer f.recorder.mu.Unlock()
		keys = append(keys, f.requests[len(f.requests)-1].GetIdempotencyKey())
		if len(keys)%2 == 1 { // Tollgate has counted it, and the answer is lost
			_ = res.Body.Close()
			return nil, errReset
		}
		return res, err
	})
	f.SetLimit(limitOf("orders", "orders:*", 3))
	c := f.client(t)
	for i := range 3 {
		d, err := c.Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: f.Token("alice"), Permission: "orders:read"})
		must(t, err)
		if !d.Allowed || d.Limits[0].Remaining != int64(2-i) {
			t.Errorf("call %d: %+v", i, d)
		}
	}
	if len(keys) != 6 || keys[0] != keys[1] || keys[2] != keys[3] || keys[0] == keys[2] || keys[0] == "" || len(keys[0]) > 64 {
		t.Errorf("keys %q", keys)
	}
	if other := f.client(t); errorOf(other.Authorize(t.Context(), about("orders/1"))) == nil && slices.Contains(keys[:6], keys[6]) {
		t.Error("two clients name calls alike")
	}
}

// TestRetryWhileTheKeyLasts: a call that Tollgate may have counted is not made again
// when Tollgate may have forgotten its key.
func TestRetryWhileTheKeyLasts(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int{"Authorize": 2, "CheckLimit": 2, "BatchAuthorize": 2, "Verify": 3} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{fail: func(_ string, tries int) error {
				if tries == 1 {
					return errReset
				}
				return &answered{"OVERLOADED", "9"}
			}}
			c := n.client(t, tollgate.WithTimeout(time.Minute))
			err := map[string]func() error{
				"Authorize":  func() error { return errorOf(c.Authorize(t.Context(), about("orders/1"))) },
				"CheckLimit": func() error { return errorOf(c.CheckLimit(t.Context(), tollgate.CheckLimitRequest{Limit: "sms"})) },
				"BatchAuthorize": func() error {
					return errorOf(c.BatchAuthorize(t.Context(), []tollgate.AuthorizeRequest{about("orders/1")}))
				},
				"Verify": func() error { return errorOf(c.Verify(t.Context(), "alice.token")) },
			}[method]()
			if got := n.tried(method); got != want || err == nil {
				t.Errorf("%s: made %d times, want %d; error %v", method, got, want, err)
			}
		})
	}
}

// TestWithoutRetries: no call is made again, and none carries a key.
func TestWithoutRetries(t *testing.T) {
	t.Parallel()
	n := &network{fail: func(string, int) error { return errDial }}
	c := n.client(t, tollgate.WithRetries(0))
	for _, call := range retried {
		if call.call(t.Context(), c) == nil {
			t.Errorf("%s: no error", call.method)
		}
	}
	if len(n.bodies) != len(retried) {
		t.Errorf("%d requests for %d calls", len(n.bodies), len(retried))
	}
	f := deciding(t, allowed())
	must(t, errorOf(f.client(t, tollgate.WithRetries(0)).Authorize(t.Context(), about("orders/1"))))
	if key := f.asked(t).GetIdempotencyKey(); key != "" {
		t.Errorf("key %q", key)
	}
}

// TestRetryBudget: an outage is not multiplied, whatever the number of calls; answers
// fill the budget again.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := true
		n := &network{fail: func(string, int) error {
			if down {
				return errDial
			}
			return nil
		}}
		c := n.client(t)
		verify := func(times int) (requests int) {
			before := n.tried("Verify")
			for range times {
				_, _ = c.Verify(t.Context(), "alice.token")
			}
			return n.tried("Verify") - before
		}
		if got := verify(1000); got != 1010 {
			t.Errorf("%d requests for 1000 calls in an outage, want 1010", got)
		}
		down = false
		verify(55)
		down = true
		if got := verify(1000); got != 1005 {
			t.Errorf("%d requests for 1000 calls after 55 answers, want 1005", got)
		}
	})
}

// TestRetryEnds: a call waits for its next try no longer than its caller does.
func TestRetryEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &network{fail: func(string, int) error { return &answered{"OVERLOADED", "5"} }}
		c := n.client(t, tollgate.WithTimeout(time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err := c.Verify(ctx, "alice.token")
		if wantError(t, err, connect.CodeUnavailable); time.Since(began) != time.Second {
			t.Errorf("it took %s", time.Since(began))
		}
	})
}
