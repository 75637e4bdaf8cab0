package tollgate_test

import (
	"context"
	"errors"
	"fmt"
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

// together begins one call for each resource and waits until all of them wait for
// something. done returns when they are answered.
func together(t *testing.T, c *tollgate.Client, resources ...string) (done func()) {
	t.Helper()
	var all sync.WaitGroup
	for _, resource := range resources {
		all.Go(func() {
			d, err := c.Authorize(t.Context(), about(resource))
			if err != nil || !d.Allowed || d.Principal.UserID != resource {
				t.Errorf("%s: %+v, error %v", resource, d, err)
			}
		})
		synctest.Wait()
	}
	return all.Wait
}

// pass lets the calls that wait go.
func pass() {
	time.Sleep(2 * time.Millisecond)
	synctest.Wait()
}

// busy has as many requests under way as there may be.
func busy(t *testing.T, c *tollgate.Client) (done func()) {
	t.Helper()
	var held []func()
	for range 32 {
		held = append(held, together(t, c, "hold"))
		pass()
	}
	return func() {
		for _, wait := range held {
			wait()
		}
	}
}

func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("orders/%d", i)
	}
	return list
}

func wantCarried(t *testing.T, s *rolesService, want ...int) {
	t.Helper()
	if got := s.carried(); !slices.Equal(got, want) {
		t.Errorf("the requests carried %v calls, want %v", got, want)
	}
}

// TestBatch: a call waits for no other while nothing is under way, and otherwise
// until a request comes back, a millisecond, or until a hundred wait.
func TestBatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		held, calls int
		release     bool
		carried     []int
		took        time.Duration
	}{
		"one by itself":              {0, 1, false, []int{1}, 0},
		"a request comes back":       {1, 7, true, []int{1, 7}, 0},
		"one waits":                  {1, 1, false, []int{1, 1}, time.Millisecond},
		"several wait":               {1, 7, false, []int{1, 7}, time.Millisecond},
		"a full batch does not wait": {1, 100, false, []int{1, 100}, 0},
		"more than a batch holds":    {1, 250, false, []int{1, 100, 100, 50}, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, release := holding()
				c := s.client(t)
				held := together(t, c, slices.Repeat([]string{"hold"}, test.held)...)
				began := time.Now()
				done := together(t, c, numbered(test.calls)...)
				if test.release {
					release()
				}
				done()
				if took := time.Since(began); took != test.took {
					t.Errorf("the calls took %s, want %s", took, test.took)
				}
				wantCarried(t, s, test.carried...)
				release()
				held()
			})
		})
	}
}

// TestBatchRequestsAreBounded: while as many requests as may be are under way, calls
// wait longer, and go with the first that comes back.
func TestBatchRequestsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, release := holding()
		c := s.client(t)
		held := busy(t, c)
		done := together(t, c, numbered(5)...)
		time.Sleep(time.Second)
		wantCarried(t, s, slices.Repeat([]int{1}, 32)...)
		release()
		done()
		held()
		wantCarried(t, s, append(slices.Repeat([]int{1}, 32), 5)...)
	})
}

// TestBatchTooManyWait: a call that there is no place to wait for fails at once, in a
// way that never fails open.
func TestBatchTooManyWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, release := holding()
		c := s.client(t, tollgate.WithFailureMode(tollgate.FailOpen, nil))
		held := busy(t, c)
		ctx, cancel := context.WithCancel(t.Context())
		for range 10_000 {
			go func() { _, _ = c.Authorize(ctx, about("orders/1")) }()
		}
		synctest.Wait()
		began := time.Now()
		_, err := c.Authorize(t.Context(), about("orders/2"))
		if known := wantError(t, err, connect.CodeResourceExhausted); known.Reason != "TOO_MANY_WAITING" || time.Since(began) > 0 {
			t.Errorf("error %v after %s", err, time.Since(began))
		}
		cancel()
		synctest.Wait()
		done := together(t, c, "orders/3")
		release()
		done()
		held()
	})
}

// TestBatchCallerLeaves: a caller who leaves does not wait, and has nobody else wait
// or fail; what nobody waits for is not sent, or ends.
func TestBatchCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, release := holding()
		ended := make(chan struct{}, 10)
		answer := s.answer
		s.answer = func(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
			if req.GetResource() == "forever" {
				<-ctx.Done()
				ended <- struct{}{}
				return nil, ctx.Err()
			}
			return answer(ctx, req)
		}
		c := s.client(t)
		held := together(t, c, "hold")
		leaving := func(resource string) (leave func()) {
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() { left <- errorOf(c.Authorize(ctx, about(resource))) }()
			synctest.Wait()
			return func() {
				cancel()
				wantError(t, <-left, connect.CodeCanceled)
			}
		}

		first := leaving("orders/unsent")
		done := together(t, c, "hold/1", "hold/2")
		first()
		second := leaving("hold/sent")
		pass()
		wantCarried(t, s, 1, 3) // without the one that left
		second()

		third, fourth := leaving("forever"), leaving("forever")
		pass()
		wantCarried(t, s, 1, 3, 2)
		third()
		synctest.Wait()
		if len(ended) > 0 {
			t.Error("a request ended although one call waits for it")
		}
		fourth()
		synctest.Wait()
		if len(ended) != 2 {
			t.Error("a request that nobody waits for goes on")
		}
		release()
		done()
		held()
	})
}

// TestBatchDeadlines: each call ends at its own deadline, and the request at the
// latest of them.
func TestBatchDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := holding()
		ends := make(chan time.Time, 1)
		answer := s.answer
		s.answer = func(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
			if req.GetResource() == "hold/long" {
				deadline, _ := ctx.Deadline()
				ends <- deadline
			}
			return answer(ctx, req)
		}
		c := s.client(t, tollgate.WithTimeout(time.Second))
		began := time.Now()
		var all sync.WaitGroup
		for _, call := range []struct {
			resource string
			deadline time.Duration
		}{{"hold", time.Hour}, {"hold/short", 50 * time.Millisecond}, {"hold/long", 700 * time.Millisecond}} {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), call.deadline)
				defer cancel()
				_, err := c.Authorize(ctx, about(call.resource))
				wantError(t, err, connect.CodeDeadlineExceeded)
				if took := time.Since(began); took != min(call.deadline, time.Second) || !errors.Is(err, tollgate.ErrUnavailable) {
					t.Errorf("%s: %v after %s", call.resource, err, took)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if got := (<-ends).Sub(began).Round(10 * time.Millisecond); got != 700*time.Millisecond {
			t.Errorf("the request had %s, want the longest of its calls'", got)
		}
		wantCarried(t, s, 1, 2)
	})
}

// TestBatchIsBounded: a request stays within what Tollgate takes.
func TestBatchIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, release := holding()
		c := s.client(t)
		held := together(t, c, "hold")
		attributes := map[string]any{"text": strings.Repeat("a", 7000)}
		var all sync.WaitGroup
		for range 90 {
			all.Go(func() {
				q := about("orders/1")
				q.ResourceAttributes = attributes
				must(t, errorOf(c.Authorize(t.Context(), q)))
			})
		}
		all.Wait()
		if s.bytes > 256<<10 || s.bytes < 200<<10 {
			t.Errorf("the largest request has %d bytes", s.bytes)
		}
		release()
		held()
		q := about("orders/1")
		q.Context = map[string]string{"x": strings.Repeat("a", 256<<10)}
		_, err := c.Authorize(t.Context(), q)
		if known := wantError(t, err, connect.CodeResourceExhausted); known.Reason != "TOO_LARGE" {
			t.Errorf("error %v", err)
		}
	})
}
