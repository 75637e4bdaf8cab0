// Package fault is the one error type that Tollgate's packages return for what a
// caller should know about, and the one table from kinds of errors to Connect
// codes and HTTP statuses. Every other error is a bug or an outage inside: the
// caller learns only that it happened.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
)

// Kind is what went wrong, seen from the caller.
type Kind uint8

// The kinds. The zero Kind is Internal, so that an error without a kind
// tells nothing.
const (
	Internal        Kind = iota // our mistake
	Invalid                     // the request is malformed; see Violations
	Unauthenticated             // no credential, or a bad one
	Denied                      // a known caller who may not
	NotFound                    // the thing named does not exist
	Exists                      // the thing to make exists already
	Precondition                // the state forbids it; trying again will not help
	Conflict                    // another call was faster; trying again may help
	Limited                     // a limit is used up; see RetryAfter
	TooLarge                    // the request is over a size limit
	Unavailable                 // something we need is down; see RetryAfter
	Canceled                    // the caller hung up
	Timeout                     // the caller's deadline passed
	Unimplemented               // no such method
)

// kinds is the table: one row a kind.
var kinds = [...]struct {
	name   string
	code   connect.Code
	status int
}{
	Internal:        {"internal", connect.CodeInternal, http.StatusInternalServerError},
	Invalid:         {"invalid", connect.CodeInvalidArgument, http.StatusBadRequest},
	Unauthenticated: {"unauthenticated", connect.CodeUnauthenticated, http.StatusUnauthorized},
	Denied:          {"denied", connect.CodePermissionDenied, http.StatusForbidden},
	NotFound:        {"not found", connect.CodeNotFound, http.StatusNotFound},
	Exists:          {"exists", connect.CodeAlreadyExists, http.StatusConflict},
	Precondition:    {"precondition", connect.CodeFailedPrecondition, http.StatusBadRequest},
	Conflict:        {"conflict", connect.CodeAborted, http.StatusConflict},
	Limited:         {"limited", connect.CodeResourceExhausted, http.StatusTooManyRequests},
	TooLarge:        {"too large", connect.CodeResourceExhausted, http.StatusRequestEntityTooLarge},
	Unavailable:     {"unavailable", connect.CodeUnavailable, http.StatusServiceUnavailable},
	Canceled:        {"canceled", connect.CodeCanceled, 499},
	Timeout:         {"timeout", connect.CodeDeadlineExceeded, http.StatusGatewayTimeout},
	Unimplemented:   {"unimplemented", connect.CodeUnimplemented, http.StatusNotImplemented},
}

// String names the kind, for logs.
func (k Kind) String() string { return kinds[k].name }

// Code is the Connect and gRPC code of the kind.
func (k Kind) Code() connect.Code { return kinds[k].code }

// Status is the HTTP status of the kind.
func (k Kind) Status() int { return kinds[k].status }

// Violation is one thing wrong with one field of a request.
type Violation struct {
	Field   string // as the caller wrote it: "limits[0].rate"
	Message string // "must be at least 1"
}

// Error is what a caller gets. Message and Violations go out as they are,
// so they never hold a secret, SQL or another error's text; Cause stays inside.
type Error struct {
	Kind       Kind
	Reason     string // stable and upper case, for programs: "LAST_ADMINISTRATOR"
	Message    string // for people, says what to do next
	Violations []Violation
	RetryAfter time.Duration // zero: unknown
	Challenge  string        // WWW-Authenticate, for Unauthenticated; empty: the usual one
	Cause      error         // for our log only
}

// New makes an error for the caller.
func New(kind Kind, reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Field is the error for one wrong field.
func Field(field, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	return &Error{
		Kind: Invalid, Reason: "INVALID_FIELD", Message: field + ": " + message,
		Violations: []Violation{{Field: field, Message: message}},
	}
}

// NothingToUpdate is the error for an update that sets no field.
func NothingToUpdate() *Error {
	return New(Invalid, "NOTHING_TO_UPDATE", "the update changes nothing; set at least one field")
}

// Down is the error for something we need and cannot reach: the caller may try
// again after a second.
func Down(what string, cause error) *Error {
	return &Error{
		Kind: Unavailable, Reason: "DEPENDENCY_DOWN", RetryAfter: time.Second, Cause: cause,
		Message: what + " does not answer; try again",
	}
}

// Because keeps cause for the log.
func (e *Error) Because(cause error) *Error {
	e.Cause = cause
	return e
}

// After says when to try again.
func (e *Error) After(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// Error is for our log: it includes the cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Kind, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Message)
}

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.Cause }

// From finds the Error in err, or makes the one that tells the caller least.
// It returns nil for nil.
func From(err error) *Error {
	var known *Error
	var wire *connect.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.Canceled):
		return New(Canceled, "CANCELED", "the call was canceled").Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return New(Timeout, "DEADLINE_EXCEEDED", "the call took longer than its deadline").Because(err)
	case errors.As(err, &wire) && KindOf(wire.Code()) != Internal: // connect's own, about the call's form
		return New(KindOf(wire.Code()), strings.ToUpper(wire.Code().String()), "%s", wire.Message()).Because(err)
	default:
		return New(Internal, "INTERNAL", "something went wrong here; the request id finds it in our log").Because(err)
	}
}

// Of is From for the error that ended a call whose own context is ctx. Where ctx
// has ended, what did not answer did not fail: the caller hung up or had no more
// time, and Unavailable becomes Canceled or Timeout.
func Of(ctx context.Context, err error) *Error {
	f := From(err)
	var wire *connect.Error // a message that could not be sent
	if f != nil && ctx.Err() != nil && (f.Kind == Unavailable || f.Kind == Internal && errors.As(err, &wire)) {
		ended := From(ctx.Err())
		ended.Cause = f
		return ended
	}
	return f
}

// Is says whether err is an Error of this kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}
