// Package faulttest checks the errors that a test got.
package faulttest

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Want ends the test unless an error has a kind and reason, and returns it.
func Want(t testing.TB, err error, kind fault.Kind, reason string) *fault.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v %s", kind, reason)
	}
	f := fault.From(err)
	if f.Kind != kind || f.Reason != reason {
		t.Fatalf("error %v %s (%v), want %v %s", f.Kind, f.Reason, err, kind, reason)
	}
	return f
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
