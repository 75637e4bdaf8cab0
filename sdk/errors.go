package tollgate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// ErrUnavailable is what [errors.Is] finds in the error of a call that Tollgate
// did not answer: it is down, not reachable, or slower than the timeout. The
// same call may succeed later.
var ErrUnavailable = errors.New("tollgate: no answer")

// Error is the error of every call; [errors.As] finds it.
type Error struct {
	Code       connect.Code
	Reason     string // stable, for programs: "LAST_ADMINISTRATOR"; empty when Tollgate did not answer
	Message    string // for people
	RequestID  string // finds the call in Tollgate's log
	RetryAfter time.Duration
	Violations []Violation

	cause error
}

// Violation is one thing wrong with one field of a request.
type Violation struct {
	Field   string // "limits[0].rate"
	Message string
}

// Error returns the code, the message, and the request id when there is one.
func (e *Error) Error() string {
	if e.RequestID != "" {
		return fmt.Sprintf("tollgate: %s: %s (request %s)", e.Code, e.Message, e.RequestID)
	}
	return fmt.Sprintf("tollgate: %s: %s", e.Code, e.Message)
}

// Unwrap returns the [*connect.Error].
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is [ErrUnavailable] and the call had no answer.
func (e *Error) Is(target error) bool {
	return target == ErrUnavailable &&
		(e.Code == connect.CodeUnavailable || e.Code == connect.CodeDeadlineExceeded)
}

// DeniedError is a decision against the call, as an error; see [Decision.Err].
type DeniedError struct {
	Reason     Reason
	RetryAfter time.Duration // set with ReasonLimited, unless waiting never helps
}

// Error returns the reason.
func (d *DeniedError) Error() string {
	if d.RetryAfter > 0 {
		return fmt.Sprintf("tollgate: denied: %s, try again in %s", d.Reason, d.RetryAfter)
	}
	return "tollgate: denied: " + string(d.Reason)
}

// toError reads the details that Tollgate gives with an error.
func toError(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	e := &Error{Code: connect.CodeOf(err), Message: err.Error(), cause: err}
	wire, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return e
	}
	e.Message = wire.Message()
	e.RequestID = wire.Meta().Get("X-Request-Id")
	if seconds, err := strconv.ParseUint(wire.Meta().Get("Retry-After"), 10, 31); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	for _, detail := range wire.Details() {
		value, err := detail.Value()
		if err != nil {
			continue // of a kind we do not know
		}
		switch value := value.(type) {
		case *errdetails.ErrorInfo:
			e.Reason = value.GetReason()
			if id := value.GetMetadata()["request_id"]; id != "" {
				e.RequestID = id
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = value.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			for _, v := range value.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{v.GetField(), v.GetDescription()})
			}
		}
	}
	return e
}

// noAnswer returns an error in which errors.Is finds ErrUnavailable.
func noAnswer(message string, cause error) *Error {
	if cause != nil {
		message += ": " + cause.Error()
	}
	return &Error{Code: connect.CodeUnavailable, Message: message, cause: cause}
}

// contextError returns the error of a wait that ctx ended.
func contextError(ctx context.Context) *Error {
	code := connect.CodeDeadlineExceeded
	if errors.Is(ctx.Err(), context.Canceled) {
		code = connect.CodeCanceled
	}
	return toError(connect.NewError(code, ctx.Err()))
}
