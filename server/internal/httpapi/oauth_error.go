package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// oauthError is an error as RFC 6749 §5.2 has it.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`

	status     int
	allow      string
	retryAfter string
}

func (e *oauthError) Error() string { return e.Code + ": " + e.Description }

func badForm(format string, args ...any) error {
	return &oauthError{status: http.StatusBadRequest, Code: "invalid_request", Description: fmt.Sprintf(format, args...)}
}

func invalidClient(description string) error {
	return &oauthError{status: http.StatusUnauthorized, Code: "invalid_client", Description: description}
}

func invalidTarget(description string) error {
	return &oauthError{status: http.StatusBadRequest, Code: "invalid_target", Description: description}
}

// refuse answers with an error. The log gets its cause.
func (o *oauth) refuse(w http.ResponseWriter, r *http.Request, err error, from client) {
	e, known := errors.AsType[*oauthError](err)
	if !known {
		f := fault.Of(r.Context(), err)
		o.guard.Count(f)
		if f.Kind == fault.Internal && f.Cause != nil {
			o.log.ErrorContext(r.Context(), "call failed", "path", r.URL.Path, "error", f.Cause, "request_id", caller.From(r.Context()).RequestID)
		}
		e = newOAuthError(f, from)
	}
	h := w.Header()
	switch {
	case e.status == http.StatusUnauthorized && from.bearer:
		h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case e.status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Basic realm="tollgate", charset="UTF-8"`)
	case e.Code == "insufficient_scope" && from.bearer:
		h.Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
	}
	if e.allow != "" {
		h.Set("Allow", e.allow)
	}
	if e.retryAfter != "" {
		h.Set("Retry-After", e.retryAfter)
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	json.NewEncoder(w).Encode(e) //nolint:errcheck // the caller hung up
}

// newOAuthError is a fault in the words of OAuth 2.0.
func newOAuthError(f *fault.Error, from client) *oauthError {
	e := &oauthError{status: f.Kind.Status(), Description: printable(f.Message)}
	if f.RetryAfter > 0 {
		e.retryAfter = strconv.FormatInt(int64(math.Ceil(f.RetryAfter.Seconds())), 10)
	}
	switch f.Reason {
	case "BAD_REFRESH_TOKEN", "REFRESH_TOKEN_REUSED", "WRONG_CLIENT":
		e.Code, e.status = "invalid_grant", http.StatusBadRequest
		return e
	case "INVALID_SCOPE":
		e.Code = "invalid_scope"
		return e
	case "INVALID_AUDIENCE":
		e.Code = "invalid_target" // RFC 8707 §2
		return e
	case "UNSUPPORTED_TOKEN_TYPE":
		e.Code = "unsupported_token_type" // RFC 7009 §2.2.1
		return e
	}
	switch f.Kind {
	case fault.Unauthenticated:
		e.Code = "invalid_client"
		if from.bearer {
			e.Code = "invalid_token" // RFC 6750 §3.1
		}
	case fault.Denied:
		e.Code = "insufficient_scope"
	case fault.Limited, fault.Unavailable, fault.Timeout, fault.Conflict:
		e.Code = "temporarily_unavailable"
	case fault.Internal, fault.Canceled, fault.Unimplemented:
		e.Code = "server_error"
	default:
		e.Code = "invalid_request"
	}
	return e
}

// printable brings a text to the characters of error_description.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '"':
			return '\''
		case c < ' ' || c > '~' || c == '\\':
			return '?'
		}
		return c
	}, text)
}
