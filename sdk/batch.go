package tollgate

import (
	"context"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

const (
	// freeRequests is how many requests are under way before calls gather. Per call of
	// 64 callers, server and client took 12 and 10 µs with one, 14 and 12 with two, 18
	// and 16 with four, because batches are smaller.
	freeRequests = 1
	// maxRequests is how many may be under way when none comes back in maxGather.
	maxRequests = 32
	// maxGather is how long a call waits for others while requests are under way.
	maxGather = time.Millisecond
	// maxBatch is how many calls one request carries (BatchAuthorizeRequest), and
	// maxBatchBytes how large it may be, of the 256 KiB that Tollgate takes.
	maxBatch, maxBatchBytes = 100, 240 << 10
	// maxWaiting is how many calls may wait to be sent.
	maxWaiting = 10_000
)

// batcher has concurrent calls share requests. A call goes out at once, by itself,
// while few requests are under way. Others gather, and leave together as soon as one
// of these is answered, when there is a batch full, or after maxGather. Its
// goroutines last only as long as there are calls.
type batcher struct {
	one  func(context.Context, *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error)
	many func(context.Context, *tollgatev1.BatchAuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error)

	refused refusedCalls

	mu      sync.Mutex
	waiting []*waiter // in the order in which they came
	sending int
	armed   bool // ripe is called when the first one has waited for maxGather
}

// waiter is a call that waits for others, and then for its answer.
type waiter struct {
	ctx   context.Context // has a deadline
	req   *tollgatev1.AuthorizeRequest
	size  int
	since time.Time
	batch *batch // nil: not sent. The batcher's lock is held.

	done chan struct{} // closed when the rest is set
	res  *tollgatev1.AuthorizeResponse
	err  error
	solo bool // has to be asked by itself
}

// batch is a request with several calls.
type batch struct {
	waiters []*waiter
	present int // whose callers have not left. The batcher's lock is held.
	cancel  context.CancelFunc
}

// authorize returns the answer about one call, no later than ctx ends.
func (b *batcher) authorize(ctx context.Context, req *tollgatev1.AuthorizeRequest, size int) (*tollgatev1.AuthorizeResponse, error) {
	res, err := b.ask(ctx, req, size)
	if err == nil {
		b.refused.learn(req, res)
	}
	return res, err
}

func (b *batcher) ask(ctx context.Context, req *tollgatev1.AuthorizeRequest, size int) (*tollgatev1.AuthorizeResponse, error) {
	if !shareable(req, size) || b.refused.has(req) {
		return b.one(ctx, req)
	}
	b.mu.Lock()
	if b.sending < freeRequests && len(b.waiting) == 0 {
		b.sending++
		b.mu.Unlock()
		defer b.answered()
		return b.one(ctx, req)
	}
	if len(b.waiting) >= maxWaiting {
		b.mu.Unlock()
		return nil, tooManyWaiting()
	}
	w := &waiter{ctx: ctx, req: req, size: size, since: time.Now(), done: make(chan struct{})}
	b.waiting = append(b.waiting, w)
	if len(b.waiting) >= maxBatch && b.sending < maxRequests {
		b.send()
	}
	b.arm()
	b.mu.Unlock()

	select {
	case <-w.done:
	case <-ctx.Done():
		b.leave(w)
		return nil, contextError(ctx)
	}
	if w.solo {
		return b.one(ctx, req)
	}
	return w.res, w.err
}

// tooManyWaiting is no ErrUnavailable: who floods this service must not find calls
// that fail open.
func tooManyWaiting() *Error {
	return &Error{
		Code: connect.CodeResourceExhausted, Reason: "TOO_MANY_WAITING", RetryAfter: time.Second,
		Message: "too many calls of this process wait for Tollgate; it answers more slowly than they come",
	}
}

// leave forgets a call whose caller is gone. A request that nobody waits for ends.
func (b *batcher) leave(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.batch != nil {
		if w.batch.present--; w.batch.present == 0 {
			w.batch.cancel()
		}
		return
	}
	if i := slices.Index(b.waiting, w); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
}

// arm sets the timer of the first one that waits. The lock is held.
func (b *batcher) arm() {
	if b.armed || len(b.waiting) == 0 || b.sending >= maxRequests {
		return
	}
	b.armed = true
	time.AfterFunc(maxGather-time.Since(b.waiting[0].since), b.ripe)
}

func (b *batcher) ripe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
	for b.overdue() && b.sending < maxRequests {
		b.send()
	}
	b.arm()
}

func (b *batcher) overdue() bool {
	return len(b.waiting) > 0 && time.Since(b.waiting[0].since) >= maxGather
}

// answered gives the place of a request that has come back to those who wait.
func (b *batcher) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sending--
	if len(b.waiting) > 0 && (b.sending < freeRequests || len(b.waiting) >= maxBatch || b.overdue()) {
		b.send()
	}
	b.arm()
}

// send begins a request with as many of those who wait as it can carry. The lock is
// held.
func (b *batcher) send() {
	n, size := 0, 0
	for ; n < len(b.waiting) && n < maxBatch; n++ {
		const framing = 1 + 4 // a field's number and its length
		if size += b.waiting[n].size + framing; size > maxBatchBytes && n > 0 {
			break
		}
	}
	waiters := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	b.sending++

	if n == 1 {
		w := waiters[0]
		w.batch = &batch{present: 1, cancel: func() {}} // its own context ends the request
		go func() {
			defer b.answered()
			w.res, w.err = b.one(w.ctx, w.req)
			close(w.done)
		}()
		return
	}
	var latest time.Time
	for _, w := range waiters {
		if deadline, _ := w.ctx.Deadline(); deadline.After(latest) {
			latest = deadline
		}
	}
	ctx, cancel := context.WithDeadline(context.Background(), latest)
	sent := &batch{waiters: waiters, present: n, cancel: cancel}
	for _, w := range waiters {
		w.batch = sent
	}
	go func() {
		defer b.answered()
		defer cancel()
		b.exchange(ctx, sent)
	}()
}

// exchange sends a batch and gives each caller what is theirs.
func (b *batcher) exchange(ctx context.Context, sent *batch) {
	req := &tollgatev1.BatchAuthorizeRequest{Independent: true, Requests: make([]*tollgatev1.AuthorizeRequest, len(sent.waiters))}
	for i, w := range sent.waiters {
		req.Requests[i] = w.req
	}
	res, err := b.many(ctx, req)
	if err == nil && len(res.GetResponses()) != len(sent.waiters) {
		err = incomplete("a decision for each request")
	}
	for i, w := range sent.waiters {
		switch {
		case err == nil:
			w.res = res.GetResponses()[i]
		case aboutAll(err):
			failed := *toError(err) // each caller's own
			w.err = &failed
		default:
			w.solo = true
		}
	}
	for _, f := range res.GetFailures() {
		if i := int(f.GetIndex()); i >= 0 && i < len(sent.waiters) && err == nil {
			w := sent.waiters[i]
			w.res, w.err = nil, failureError(f)
			w.solo = !aboutAll(w.err)
		}
	}
	for _, w := range sent.waiters {
		close(w.done)
	}
}

// aboutAll says whether an error would be that of each call by itself: it is about
// Tollgate, or this service's own credential. Others may be the fault of one call.
func aboutAll(err error) bool {
	e := toError(err)
	switch e.Code {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled,
		connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeFailedPrecondition:
		return true
	case connect.CodeResourceExhausted:
		return e.Reason == string(ReasonLimited)
	default:
		return e.Reason == reasonIncomplete
	}
}
