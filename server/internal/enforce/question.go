package enforce

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/internal/perm"
)

// Question is what a proxy's own configuration asks.
type Question struct {
	Needs    *Needs // nil: what the route says
	Audience string
	Flavor   Flavor
}

// Form is where a proxy's configuration puts its settings.
type Form struct {
	In      string // for messages: "the query"
	Context bool   // names that are not known are context, instead of mistakes

	// Others are names that the form knows besides, and has read before.
	Others []string
}

const (
	maxAudience = 255
	maxResource = 256 // bytes
	maxCost     = 1_000_000

	maxContext      = 32 // entries, as Authorize takes
	maxContextKey   = 64 // characters
	maxContextValue = 256
)

var settings = []string{"permission", "authenticated", "resource", "cost", "audience", "headers"}

// Read reads the settings. What is not known or cannot be is Invalid,
// BAD_PROXY_REQUEST: a configuration that is not understood asks for nothing.
func (f Form) Read(values map[string]string) (Question, error) {
	var q Question
	var needs Needs
	for name, value := range values {
		if slices.Contains(f.Others, name) {
			continue
		}
		if value == "" && (f.known(name) || !f.Context) {
			return q, BadRequest("%s is empty in %s; leave it out", f.named(name), f.In)
		}
		ok := true
		switch name {
		case "permission":
			if err := perm.ValidPermission(value); err != nil {
				return q, BadRequest("permission %v", err)
			}
			if perm.Own(value) {
				return q, BadRequest("permission must be one of your own: Tollgate decides about its own API (tollgate:…) by itself")
			}
			needs.Permission = value
		case "authenticated":
			needs.Authenticated, ok = true, value == "true"
		case "resource":
			needs.Resource, ok = value, len(value) <= maxResource
		case "cost":
			cost, err := strconv.ParseInt(value, 10, 64)
			needs.Cost, ok = cost, err == nil && cost >= 1 && cost <= maxCost
		case "audience":
			q.Audience, ok = value, len(value) <= maxAudience
		case "headers":
			q.Flavor, ok = Flavor(value), Flavor(value).Valid()
		default:
			if !f.Context {
				return q, BadRequest("%s has a parameter that is not known; there are %s", f.In, strings.Join(slices.Concat(settings, f.Others), ", "))
			}
			if needs.Context == nil {
				needs.Context = map[string]string{}
			}
			needs.Context[name] = value
		}
		if !ok {
			return q, BadRequest("%s is not one of the values that it can have, or too long: authenticated is true, cost 1 to %d, headers remote or x-auth-request", name, maxCost)
		}
	}
	switch {
	case !validContext(needs.Context):
		return q, BadRequest("the context in %s has more than %d entries, or one whose name is not 1 to %d characters long or whose value over %d",
			f.In, maxContext, maxContextKey, maxContextValue)
	case needs.Permission != "" || needs.Authenticated:
		q.Needs = &needs
	case needs.Resource != "" || needs.Cost != 0 || needs.Context != nil:
		return q, BadRequest("resource, cost and context go with a permission; without one, the route says them")
	}
	return q, nil
}

// validContext says whether Authorize would take the context.
func validContext(context map[string]string) bool {
	for name, value := range context {
		if name == "" || utf8.RuneCountInString(name) > maxContextKey || utf8.RuneCountInString(value) > maxContextValue {
			return false
		}
	}
	return len(context) <= maxContext
}

func (f Form) known(name string) bool {
	return slices.Contains(settings, name) || slices.Contains(f.Others, name)
}

// named keeps what somebody may have mistyped out of the answer.
func (f Form) named(name string) string {
	if f.known(name) {
		return name
	}
	return "a parameter"
}
