// Package overview keeps what one instance has been doing in the last 15 minutes, in
// memory and bounded, for people who look now.
package overview

import (
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
)

const (
	// BucketLength is how long a bucket of the series is.
	BucketLength = 5 * time.Second
	// Window is how far back the overview reaches.
	Window = 15 * time.Minute

	buckets = int(Window / BucketLength)
	// listed is how many entries of each list are returned.
	listed = 20
	// maxName bounds, in bytes, what a caller may have chosen.
	maxName = 128
)

// The kinds of decisions, closed sets: what callers send never becomes one.
var (
	sources = []decision.Source{
		decision.SourceAPI, decision.SourceService, decision.SourceAuthZEN,
		decision.SourceForwardAuth, decision.SourceExtAuthz, decision.SourceGateway,
	}
	reasons = []caller.Reason{
		caller.ReasonOK, caller.ReasonCredentialMissing, caller.ReasonCredentialInvalid, caller.ReasonCredentialExpired,
		caller.ReasonWrongAudience, caller.ReasonCredentialRevoked, caller.ReasonUserDisabled, caller.ReasonUserUnknown,
		caller.ReasonLimited, caller.ReasonPasswordChangeRequired, caller.ReasonPermissionMissing, caller.ReasonScopeMissing,
		caller.ReasonSecondFactorRequired, caller.ReasonSignInRequired, caller.ReasonSelfOnly, caller.ReasonRouteMissing,
		caller.ReasonDeniedByGrant, caller.ReasonConditionFalse, caller.ReasonConditionFailed,
	}
)

// Instance is the process.
type Instance struct {
	ID, Host, Version string
	StartedAt         time.Time
}

// Bucket is what happened in BucketLength.
type Bucket struct {
	StartsAt  time.Time
	Decisions []DecisionCount // without those that are 0
	SignIns   [signIns]uint64 // by SignIn
}

// DecisionCount is how many decisions of one kind there were.
type DecisionCount struct {
	Source decision.Source
	Reason caller.Reason
	Count  uint64
}

// SignIn is how a sign-in went.
type SignIn int

// How sign-ins go.
const (
	SignedIn      SignIn = iota // a session began
	SignInFailed                // the name, the password or the code is wrong
	SignInLimited               // there were too many
	signIns
)

// RefusedPermission is a permission that was asked for and refused.
type RefusedPermission struct {
	Permission string // "": the other ones of AskedBy
	Source     decision.Source
	AskedBy    string // the user id of the service that asked; "": no user did
	Refusals
}

// RefusedCaller is who was refused: a user, or an address.
type RefusedCaller struct {
	UserID, Username, APIKeyID string
	IP                         string
	Refusals
}

// Refusals is how often: at least Count times, and at most MaybeMore times more.
type Refusals struct{ Count, MaybeMore uint64 }

// State is how a part of the instance is.
type State string

// The states.
const (
	OK       State = "ok"
	Degraded State = "degraded" // it works, but not as it should
	Down     State = "down"
)

// Part is a part of the instance and how it is.
type Part struct {
	Name   string
	State  State
	Detail string // one sentence, without addresses and secrets
}

// Overview is the answer.
type Overview struct {
	Instance Instance
	Time     time.Time
	Buckets  []Bucket // oldest first, without gaps; the last one still counts

	Permissions []RefusedPermission // the most refused first
	Callers     []RefusedCaller     // the most refused first
	Refused     uint64              // in all

	Limits []LimitUse // the least left first
	Parts  []Part
}

// cut bounds a text of a caller's choice.
func cut(text string) string {
	if len(text) <= maxName {
		return text
	}
	end := maxName
	for end > 0 && text[end]&0xc0 == 0x80 { // not inside of a character
		end--
	}
	return text[:end]
}
