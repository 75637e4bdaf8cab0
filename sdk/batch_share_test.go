package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
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

// inBatch returns what a client answers to a call that shares its request with
// another one, which must be answered whatever becomes of the call.
func inBatch(t *testing.T, s *rolesService, q tollgate.AuthorizeRequest) (d *tollgate.Decision, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		answer, released := s.answer, make(chan struct{})
		s.requests = nil
		s.answer = func(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
			switch req.GetResource() {
			case "hold":
				<-released
				return allowed(), nil
			case "other":
				return allowed(), nil
			}
			return answer(ctx, req)
		}
		defer func() { s.answer = answer }()
		c := s.client(t)
		var all sync.WaitGroup
		call := func(q tollgate.AuthorizeRequest) {
			all.Go(func() {
				if d, err := c.Authorize(t.Context(), q); err != nil || !d.Allowed {
					t.Errorf("the other call: %+v, error %v", d, err)
				}
			})
			synctest.Wait()
		}
		call(about("hold"))
		call(about("other"))
		all.Go(func() { d, err = c.Authorize(t.Context(), q) })
		synctest.Wait()
		close(released)
		all.Wait()
	})
	return d, err
}

// TestBatchAnswers: a call gets the same decision and the same error, whether it has
// a request of its own or shares one, and takes nothing from the one beside it.
func TestBatchAnswers(t *testing.T) {
	t.Parallel()
	compare := func(t *testing.T, s *rolesService, q tollgate.AuthorizeRequest, carried ...int) {
		t.Helper()
		want, wantErr := s.client(t, tollgate.WithoutBatching()).Authorize(t.Context(), q)
		got, gotErr := inBatch(t, s, q)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("decision %+v, want %+v", got, want)
		}
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", gotErr, wantErr)
		}
		if gotErr != nil {
			want, _ := errors.AsType[*tollgate.Error](wantErr)
			got := wantError(t, gotErr, want.Code)
			if got.Error() != want.Error() || got.RetryAfter != want.RetryAfter || errors.Is(got, tollgate.ErrUnavailable) != errors.Is(want, tollgate.ErrUnavailable) {
				t.Errorf("error %+v, want %+v", got, want)
			}
		}
		wantCarried(t, s, carried...)
	}
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			compare(t, &rolesService{answer: func(context.Context, *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				return test.decision, nil
			}}, about("orders/42"), 1, 2)
		})
	}
	for name, test := range outages {
		t.Run(name, func(t *testing.T) {
			carried := []int{1, 2}
			if code := connect.CodeOf(test.err); code == connect.CodeInvalidArgument || code == connect.CodeInternal || code == connect.CodeResourceExhausted {
				carried = append(carried, 1) // asked by itself
			}
			compare(t, &rolesService{answer: func(context.Context, *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				return nil, test.err
			}}, about("orders/42"), carried...)
		})
	}
	t.Run("no principal", func(t *testing.T) {
		compare(t, &rolesService{answer: func(context.Context, *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
			return &tollgatev1.AuthorizeResponse{Allowed: true}, nil
		}}, about("orders/42"), 1, 2)
	})
	t.Run("malformed credential", func(t *testing.T) {
		q := about("orders/42")
		q.Credential = "no token"
		compare(t, &rolesService{answer: func(context.Context, *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
			return allowed(), nil
		}}, q, 1, 2)
	})
	t.Run("a batch refused as invalid", func(t *testing.T) {
		compare(t, &rolesService{
			answer: func(_ context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("resource: no"))
			},
			refuse: func(*tollgatev1.BatchAuthorizeRequest) error {
				return connect.NewError(connect.CodeInvalidArgument, errors.New("requests[1].resource: no"))
			},
		}, about("orders/42"), 1, 2, 1, 1)
	})
}

// TestBatchFails: an error about Tollgate, or this service's own credential, is that of
// each call, an error of its own, and nothing is asked again.
func TestBatchFails(t *testing.T) {
	t.Parallel()
	for _, code := range []connect.Code{connect.CodeUnavailable, connect.CodeUnauthenticated, connect.CodePermissionDenied} {
		synctest.Test(t, func(t *testing.T) {
			s, release := holding()
			s.refuse = func(*tollgatev1.BatchAuthorizeRequest) error {
				err := connect.NewError(code, errors.New("no"))
				err.Meta().Set("Retry-After", "3")
				return err
			}
			c := s.client(t)
			held := together(t, c, "hold")
			var all sync.WaitGroup
			failed := make(chan *tollgate.Error, 5)
			for range 5 {
				all.Go(func() {
					_, err := c.Authorize(t.Context(), about("orders/1"))
					failed <- wantError(t, err, code)
				})
			}
			all.Wait()
			first := <-failed
			for range 4 {
				if other := <-failed; other == first || other.RetryAfter != 3*time.Second || other.Message != first.Message {
					t.Errorf("error %+v", other)
				}
			}
			wantCarried(t, s, 1, 5)
			release()
			held()
		})
	}
}

// TestBatchLeavesOut: what Tollgate might refuse as invalid, and what may have to wait
// for a revision, makes a request of its own.
func TestBatchLeavesOut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 300)
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprint(i)] = "x"
	}
	for name, change := range map[string]func(*tollgate.AuthorizeRequest){
		"":                        func(*tollgate.AuthorizeRequest) {},
		"MinRevision":             func(q *tollgate.AuthorizeRequest) { q.MinRevision = 7 },
		"no permission":           func(q *tollgate.AuthorizeRequest) { q.Permission = "" },
		"a pattern":               func(q *tollgate.AuthorizeRequest) { q.Permission = "orders:*" },
		"an empty segment":        func(q *tollgate.AuthorizeRequest) { q.Permission = "orders::read" },
		"nine segments":           func(q *tollgate.AuthorizeRequest) { q.Permission = "a:b:c:d:e:f:g:h:i" },
		"a long permission":       func(q *tollgate.AuthorizeRequest) { q.Permission = long },
		"Tollgate's own":          func(q *tollgate.AuthorizeRequest) { q.Permission = "tollgate:verify" },
		"two rules":               func(q *tollgate.AuthorizeRequest) { q.AnyOf = []string{"orders:write"} },
		"the same twice":          func(q *tollgate.AuthorizeRequest) { q.Permission, q.AllOf = "", []string{"a:b", "a:b"} },
		"too many":                func(q *tollgate.AuthorizeRequest) { q.Permission, q.AnyOf = "", slices.Repeat([]string{"a:b"}, 17) },
		"a negative cost":         func(q *tollgate.AuthorizeRequest) { q.Cost = -1 },
		"a high cost":             func(q *tollgate.AuthorizeRequest) { q.Cost = 1_000_001 },
		"a user id of no form":    func(q *tollgate.AuthorizeRequest) { q.Credential, q.UserID = "", "alice" },
		"a long context value":    func(q *tollgate.AuthorizeRequest) { q.Context = map[string]string{"tenant": long} },
		"an empty context key":    func(q *tollgate.AuthorizeRequest) { q.Context = map[string]string{"": "x"} },
		"context that is no text": func(q *tollgate.AuthorizeRequest) { q.Context = map[string]string{"tenant": "\xff"} },
		"a large context":         func(q *tollgate.AuthorizeRequest) { q.Context = many },
		"large attributes": func(q *tollgate.AuthorizeRequest) {
			q.ResourceAttributes = map[string]any{"text": strings.Repeat("a", 9<<10)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &rolesService{answer: func(context.Context, *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				return allowed(), nil
			}}
			q := about("orders/42")
			change(&q)
			_, _ = inBatch(t, s, q)
			if name == "" {
				wantCarried(t, s, 1, 2)
			} else {
				wantCarried(t, s, 1, 1, 1)
			}
		})
	}
}

// TestBatchLeavesOutRefusals: a call of a kind that was refused goes by itself, until
// one is allowed: others would wait until the refusal is on record.
func TestBatchLeavesOutRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, release := holding()
		answer, refuse := s.answer, true
		s.answer = func(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
			if req.GetResource() == "secret" && refuse {
				return &tollgatev1.AuthorizeResponse{Reason: tollgatev1.Reason_REASON_PERMISSION_MISSING}, nil
			}
			return answer(ctx, req)
		}
		c := s.client(t)
		q := about("secret")
		q.Permission = "secrets:read"
		ask := func() { must(t, errorOf(c.Authorize(t.Context(), q))) }
		ask()
		held := together(t, c, "hold")
		done := together(t, c, "orders/1")
		ask() // does not wait, and nobody waits for it
		wantCarried(t, s, 1, 1, 1)
		refuse = false
		ask()
		go ask()
		done()
		synctest.Wait()
		wantCarried(t, s, 1, 1, 1, 1, 2)
		release()
		held()
	})
}

// TestBatchSharesOneCredential: a source that may give each context another credential
// gives each call its own.
func TestBatchSharesOneCredential(t *testing.T) {
	t.Parallel()
	type tenant struct{}
	f := newFixture(t)
	c := f.client(t, tollgate.WithTokenSource(tollgate.TokenSourceFunc(func(ctx context.Context) (string, error) {
		name, ok := ctx.Value(tenant{}).(string)
		if !ok {
			return "", errors.New("no tenant")
		}
		return name + ".token", nil
	})))
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			ctx := context.WithValue(t.Context(), tenant{}, fmt.Sprint("tenant-", i))
			must(t, errorOf(c.Authorize(ctx, about("orders/1"))))
		})
	}
	all.Wait()
	if f.Calls("RolesService/Authorize") != 50 || f.Calls("RolesService/BatchAuthorize") != 0 {
		t.Error("calls share requests")
	}
	slices.Sort(f.authorization)
	if got := len(slices.Compact(f.authorization)); got != 50 {
		t.Errorf("%d credentials presented, want 50", got)
	}
}

// TestBatchUnderLoad: of many callers with deadlines and cancellations of all kinds
// each gets the answer to its own call.
func TestBatchUnderLoad(t *testing.T) {
	t.Parallel()
	s, _ := holding()
	answer := s.answer
	s.answer = func(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
		if strings.HasSuffix(req.GetResource(), "7") {
			return nil, connect.NewError(connect.CodeUnavailable, errors.New(req.GetResource()))
		}
		return answer(ctx, req)
	}
	c := s.client(t)
	var all sync.WaitGroup
	for caller := range 64 {
		all.Go(func() {
			for i := range 50 {
				resource := fmt.Sprintf("orders/%d.%d", caller, i)
				ctx, cancel := context.WithCancel(t.Context())
				if rand.N(5) == 0 {
					cancel()
				}
				d, err := c.Authorize(ctx, about(resource))
				cancel()
				failed, _ := errors.AsType[*tollgate.Error](err)
				switch {
				case errors.Is(err, context.Canceled):
				case strings.HasSuffix(resource, "7") && failed != nil && failed.Message == resource:
				case err != nil || d.Principal.UserID != resource:
					t.Errorf("%s: %+v, error %v", resource, d, err)
				}
			}
		})
	}
	all.Wait()
	if slices.Max(s.carried()) == 1 {
		t.Error("no calls share a request")
	}
}
