package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTheTableIsComplete(t *testing.T) {
	names := map[string]Kind{}
	for kind := Internal; kind <= Unimplemented; kind++ {
		if kind.String() == "" || kind.Code() == 0 || kind.Status() < 400 {
			t.Errorf("kind %d has no row: %q %d %d", kind, kind.String(), kind.Code(), kind.Status())
		}
		if other, taken := names[kind.String()]; taken {
			t.Errorf("kinds %d and %d are both %q", kind, other, kind)
		}
		names[kind.String()] = kind
	}
	if len(kinds) != int(Unimplemented)+1 {
		t.Errorf("%d rows for %d kinds: put new kinds before Unimplemented", len(kinds), Unimplemented+1)
	}
	var zero Error
	if zero.Kind != Internal || zero.Kind.Status() != http.StatusInternalServerError {
		t.Error("an error that nobody classified is not internal")
	}
}

// Connect gives a unary error the HTTP status of its code. What we answer
// elsewhere is the same, where HTTP has nothing more exact.
func TestStatusesAreThoseOfConnect(t *testing.T) {
	connect := map[string]int{
		"canceled": 499, "invalid_argument": 400, "deadline_exceeded": 504, "not_found": 404, "already_exists": 409,
		"permission_denied": 403, "resource_exhausted": 429, "failed_precondition": 400, "aborted": 409,
		"unimplemented": 501, "internal": 500, "unavailable": 503, "unauthenticated": 401,
	}
	for kind := Internal; kind <= Unimplemented; kind++ {
		if want := connect[kind.Code().String()]; kind.Status() != want && kind != TooLarge {
			t.Errorf("%s: %d, Connect's %s is %d", kind, kind.Status(), kind.Code(), want)
		}
	}
}

func TestFrom(t *testing.T) {
	secret := errors.New(`pq: password "hunter2" for SELECT * FROM users`)
	known := New(Denied, "NOT_YOURS", "ask %s", "anna").Because(secret)
	cases := map[string]struct {
		err    error
		kind   Kind
		reason string
	}{
		"unknown":             {secret, Internal, "INTERNAL"},
		"unknown, wrapped":    {fmt.Errorf("create role: %w", secret), Internal, "INTERNAL"},
		"known":               {known, Denied, "NOT_YOURS"},
		"known, wrapped":      {fmt.Errorf("hunter2: %w", known), Denied, "NOT_YOURS"},
		"known, joined":       {errors.Join(secret, known), Denied, "NOT_YOURS"},
		"down":                {Down("the database", secret), Unavailable, "DEPENDENCY_DOWN"},
		"down, by a deadline": {Down("the database", context.DeadlineExceeded), Unavailable, "DEPENDENCY_DOWN"},
		"a field":             {Field("name", "is %d long", 3).Because(secret), Invalid, "INVALID_FIELD"},
		"hung up":             {fmt.Errorf("hunter2: %w", context.Canceled), Canceled, "CANCELED"},
		"too late":            {fmt.Errorf("hunter2: %w", context.DeadlineExceeded), Timeout, "DEADLINE_EXCEEDED"},
	}
	for name, c := range cases {
		got := From(c.err)
		if got.Kind != c.kind || got.Reason != c.reason {
			t.Errorf("%s: %s %s, want %s %s", name, got.Kind, got.Reason, c.kind, c.reason)
		}
		if told := fmt.Sprint(got.Message, got.Violations, got.Reason); strings.Contains(told, "hunter2") || got.Message == "" {
			t.Errorf("%s: tells %s", name, told)
		}
		if !errors.Is(c.err, known) && got.Cause == nil {
			t.Errorf("%s: our log does not learn the cause", name)
		}
	}
	if From(nil) != nil {
		t.Error("an error out of nothing")
	}
}

// What is down is told as such to a caller that waits, and to nobody else.
func TestOf(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	down, bug := Down("the database", nil), errors.New("a bug")
	for _, c := range []struct {
		ctx  context.Context
		err  error
		kind Kind
	}{
		{t.Context(), down, Unavailable}, {gone, down, Canceled}, {late, down, Timeout},
		{gone, bug, Internal}, {gone, New(Denied, "NO", "no"), Denied}, {t.Context(), context.Canceled, Canceled},
	} {
		if f := Of(c.ctx, c.err); f.Kind != c.kind || f.Kind != Unavailable && f.RetryAfter != 0 {
			t.Errorf("%v under %v: %v, want %s", c.err, c.ctx.Err(), f, c.kind)
		}
	}
	if Of(gone, nil) != nil {
		t.Error("an error out of nothing")
	}
}

func TestErrorsAreForOurLog(t *testing.T) {
	cause := errors.New("the cause")
	err := fmt.Errorf("wrapped: %w", New(Conflict, "LOST", "again").Because(cause).After(2*time.Second))
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "the cause") || !strings.Contains(err.Error(), "conflict: again") {
		t.Errorf("got %v", err)
	}
	if !Is(err, Conflict) || Is(err, Internal) || Is(cause, Internal) || Is(nil, Internal) {
		t.Error("Is does not tell the kind")
	}
	if From(err).RetryAfter != 2*time.Second || Down("x", nil).RetryAfter == 0 {
		t.Error("RetryAfter is lost")
	}
	f := Field("limits[0].rate", "must be at least %d", 1)
	if len(f.Violations) != 1 || f.Violations[0] != (Violation{"limits[0].rate", "must be at least 1"}) || f.Message != "limits[0].rate: must be at least 1" {
		t.Errorf("got %+v", f)
	}
}
