package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

// callError is the error of a call to a server.
type callError struct {
	error

	url string
}

func (c *callError) Unwrap() error { return c.error }

// detail is the first detail of a type in the error that a server answered with.
func detail[T any](err error) (found T, ok bool) {
	answered, is := errors.AsType[*connect.Error](err)
	if !is {
		return found, false
	}
	for _, d := range answered.Details() {
		value, err := d.Value()
		if err != nil {
			continue
		}
		if found, ok := any(value).(T); ok {
			return found, true
		}
	}
	return found, false
}

// reasonOf is the reason that a server gave, such as USER_NOT_FOUND.
func reasonOf(err error) string {
	info, _ := detail[*errdetails.ErrorInfo](err)
	return info.GetReason()
}

// explain is the text of an error: what is wrong, and what to do next.
func explain(err error) string {
	answered, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return err.Error()
	}
	address := ""
	if call, ok := errors.AsType[*callError](err); ok {
		address = call.url
	}
	if !connect.IsWireError(answered) {
		return unreachable(address, answered)
	}
	text := strings.Replace(err.Error(), answered.Error(), answered.Message(), 1)
	return text + advice(address, answered)
}

// unreachable is for a call that the server did not answer.
func unreachable(address string, err *connect.Error) string {
	if address == "" {
		return err.Message()
	}
	cause := err.Unwrap()
	if asked, ok := errors.AsType[*url.Error](cause); ok {
		cause = asked.Err
	}
	if errors.Is(cause, context.DeadlineExceeded) || err.Code() == connect.CodeDeadlineExceeded {
		return fmt.Sprintf("%s does not answer within %s; is it overloaded, or the address another's?", address, callTimeout)
	}
	return fmt.Sprintf("no Tollgate answers at %s: %v; is the server running, and is the address right? (--url, --profile)", address, cause)
}

// advice is what to do about an error that the server answered with, where its message
// is for programs rather than for who sits at a terminal.
func advice(address string, err *connect.Error) string {
	switch reason := reasonOf(err); reason {
	case "BAD_CREDENTIALS":
		return ""
	case "PASSWORD_CHANGE_REQUIRED":
		return "; or: tollgate password"
	case "SECOND_FACTOR_REQUIRED", "SIGN_IN_REQUIRED":
		return "; tollgate login NAME"
	}
	if retry, ok := detail[*errdetails.RetryInfo](err); ok {
		wait := retry.GetRetryDelay().AsDuration().Round(time.Second)
		return fmt.Sprintf(" (at %s)", time.Now().Add(max(wait, time.Second)).Format("15:04:05"))
	}
	switch err.Code() {
	case connect.CodeUnauthenticated:
		return fmt.Sprintf("; at %s: tollgate login NAME, or a good TOLLGATE_API_KEY", address)
	case connect.CodePermissionDenied:
		return "; tollgate whoami shows what you may do"
	}
	return ""
}
