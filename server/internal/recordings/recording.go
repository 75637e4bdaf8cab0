// Package recordings keeps which allowed calls are recorded in the audit log.
package recordings

import (
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const (
	// All is the sample that has every call.
	All = 1_000_000
	// maxRecordings is how many there may be: every instance, and every service that
	// decides calls by itself, keeps all of them.
	maxRecordings  = 1000
	maxDescription = 512
)

// Recording has allowed calls recorded.
type Recording struct {
	Name        string
	Description string
	Permission  string // pattern
	Sample      int64  // how many of a million questions, up to All
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Edit is a change of a recording: what is set.
type Edit struct {
	Description *string
	Permission  *string
	Sample      *int64
}

func (e Edit) empty() bool { return e.Description == nil && e.Permission == nil && e.Sample == nil }

func (e Edit) apply(r Recording) Recording {
	if e.Description != nil {
		r.Description = *e.Description
	}
	if e.Permission != nil {
		r.Permission = *e.Permission
	}
	if e.Sample != nil {
		r.Sample = *e.Sample
	}
	return r
}

// normal fills in what is not set, and checks all but the pattern.
func (r Recording) normal() (Recording, error) {
	if r.Sample == 0 {
		r.Sample = All
	}
	switch {
	case !roles.ValidName(r.Name):
		return r, fault.Field("name", `must be a lower-case letter, then letters, digits, "-", "_" or ".", at most 64 in all`)
	case utf8.RuneCountInString(r.Description) > maxDescription:
		return r, fault.Field("description", "must be at most %d characters", maxDescription)
	case r.Sample < 0 || r.Sample > All:
		return r, fault.Field("sample", "must be from 1 to %d, which is all", int64(All))
	}
	return r, nil
}
