// Package faulttest checks the errors that a test got.
package faulttest

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Want checks an error's kind and reason.
func Want(t testing.TB, err error, kind fault.Kind, reason string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %v %s", kind, reason)
		return
	}
	if f := fault.From(err); f.Kind != kind || f.Reason != reason {
		t.Errorf("error %v %s (%v), want %v %s", f.Kind, f.Reason, err, kind, reason)
	}
}

// WantField checks that an error is about one field.
func WantField(t testing.TB, err error, field string) {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Kind != fault.Invalid || len(f.Violations) != 1 || f.Violations[0].Field != field {
		t.Errorf("error %v, want one about the field %q", err, field)
	}
}

// Err is the error of a call with several results.
func Err(results ...any) error {
	if last := results[len(results)-1]; last != nil {
		return last.(error)
	}
	return nil
}
