package routes

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const (
	maxRoutes      = 10_000
	maxTotal       = 8 << 20 // characters of all routes together
	maxMethods     = 16
	maxMethod      = 32
	maxDescription = 512
	maxCost        = 1_000_000
	maxUpstream    = 512
	maxFacts       = 32
	maxFactKey     = 64
)

// Normal is the route in the form that it is stored and compared in; the error is
// about the first field that is not allowed.
func (r Route) Normal() (Route, error) {
	var err error
	if !roles.ValidName(r.Name) {
		return Route{}, fault.Field("name", `must be at most 64 characters: a lower-case letter, then lower-case letters, digits, "-", "_" or "."`)
	}
	if r.Name == "match" {
		return Route{}, fault.Field("name", `must not be "match": its path, /v1/routes/match, is that of MatchRoute`)
	}
	if utf8.RuneCountInString(r.Description) > maxDescription || strings.Contains(r.Description, "\x00") {
		return Route{}, fault.Field("description", "must be at most %d characters, without NUL", maxDescription)
	}
	if r.Host, err = hostPattern(r.Host); err != nil {
		return Route{}, err
	}
	if r.Methods, err = normalMethods(r.Methods); err != nil {
		return Route{}, err
	}
	if _, err := newEntry(&r); err != nil {
		return Route{}, err
	}
	if r.Path != "/" {
		r.Path = strings.TrimSuffix(r.Path, "/")
	}
	if err := r.checkRule(); err != nil {
		return Route{}, err
	}
	if len(r.Resource) > maxFilled {
		return Route{}, fault.Field("resource", "must be at most %d bytes", maxFilled)
	}
	if r.Cost < 0 || r.Cost > maxCost {
		return Route{}, fault.Field("cost", "must be 0 to %d; 0 means 1", maxCost)
	}
	if r.Upstream, err = NormalUpstream(r.Upstream); err != nil {
		return Route{}, err
	}
	if len(r.Context) > maxFacts {
		return Route{}, fault.Field("context", "must be at most %d entries", maxFacts)
	}
	for key, value := range r.Context {
		if key == "" || len(key) > maxFactKey || strings.Contains(key, "\x00") || !utf8.ValidString(key) || len(value) > maxFilled {
			return Route{}, fault.Field("context", "must have keys of 1 to %d bytes without NUL, and values of at most %d bytes", maxFactKey, maxFilled)
		}
	}
	r.Context = maps.Clone(r.Context)
	return r, nil
}

// checkRule checks that the route says what a request needs, and one thing only.
func (r Route) checkRule() error {
	switch {
	case r.Authenticated && r.Public:
		return fault.Field("public", "cannot be combined with authenticated; give one of them")
	case r.Permission == "" && !r.Authenticated && !r.Public:
		return fault.Field("permission", "must not be empty, unless authenticated or public is true")
	case r.Permission == "":
		return nil
	}
	if err := perm.ValidPermission(r.Permission); err != nil {
		return fault.Field("permission", "%v", err)
	}
	if perm.Own(r.Permission) {
		return fault.Field("permission", "must be one of your own: Tollgate decides about its own API (tollgate:…) by itself")
	}
	return nil
}

// normalMethods sorts methods.
func normalMethods(methods []string) ([]string, error) {
	if len(methods) > maxMethods {
		return nil, fault.Field("methods", "must be at most %d; leave them out for all", maxMethods)
	}
	for i, m := range methods {
		if !validMethod(m) {
			return nil, fault.Field(fmt.Sprintf("methods[%d]", i),
				"must be a method in upper case, at most %d characters, such as GET: methods are compared as they are", maxMethod)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(methods))), nil
}

// validMethod says whether a route can list the method: a token (RFC 9110 §5.6.2)
// without lower-case letters.
func validMethod(method string) bool {
	if method == "" || len(method) > maxMethod {
		return false
	}
	for i := range len(method) {
		c := method[i]
		if ('A' > c || c > 'Z') && ('0' > c || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
}

// NormalUpstream is scheme, host and maybe port; empty stays empty. Addresses that only machines of
// the same link have are refused: clouds keep their instances' credentials there.
func NormalUpstream(upstream string) (string, error) {
	if upstream == "" {
		return "", nil
	}
	invalid := fault.Field("upstream", "must be http:// or https://, a host and maybe a port, and nothing else: http://orders:8080")
	u, err := url.Parse(upstream)
	if err != nil || len(upstream) > maxUpstream || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || strings.ContainsAny(upstream, "#?") {
		return "", invalid
	}
	name, ip, ok := parseHost(u.Host)
	if !ok {
		return "", invalid
	}
	if ip {
		addr, err := netip.ParseAddr(name)
		if err != nil || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
			return "", fault.Field("upstream", "must not be a link-local, multicast or unspecified address")
		}
	}
	return u.Scheme + "://" + strings.ToLower(strings.TrimSuffix(u.Host, ":")), nil
}
