package routes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// naive matches by the rule as it is written in routes.proto: it looks at every
// route, and compares those that match in pairs.
func naive(list []Route, method, host string, segments []string) string {
	var best *Route
	for i := range list {
		r := &list[i]
		if naiveHost(r.Host, host) && naivePath(r.Path, segments) && (best == nil || naiveBefore(r, best, host)) {
			best = r
		}
	}
	if best == nil {
		return "-"
	}
	shape := func(r *Route) string { return r.Host + " " + strings.Join(naiveKinds(r.Path), "/") }
	takes := func(method string) *Route {
		for i := range list {
			r := &list[i]
			all := method == "" && len(r.Methods) == 0
			if shape(r) == shape(best) && (all || slices.Contains(r.Methods, method)) {
				return r
			}
		}
		return nil
	}
	if r := takes(method); r != nil {
		return r.Name
	}
	if method == "HEAD" {
		if r := takes("GET"); r != nil {
			return r.Name
		}
	}
	if r := takes(""); r != nil {
		return r.Name
	}
	return "-"
}

func naiveHost(pattern, host string) bool {
	if below, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(host, below) && len(host) > len(below)
	}
	return pattern == "" || pattern == host
}

func naiveSegments(path string) []string {
	path = strings.Trim(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

// naiveKinds are the segments without the names of parameters, each with a first
// letter that sorts the more specific first.
func naiveKinds(path string) []string {
	kinds := naiveSegments(path)
	for i, s := range kinds {
		switch {
		case strings.HasSuffix(s, "...}"):
			kinds[i] = "c"
		case strings.HasPrefix(s, "{"):
			kinds[i] = "b"
		default:
			kinds[i] = "a" + s
		}
	}
	return kinds
}

func naivePath(path string, segments []string) bool {
	kinds := naiveKinds(path)
	for i, k := range kinds {
		if k == "c" {
			return true
		}
		if i >= len(segments) || k != "b" && k != "a"+segments[i] {
			return false
		}
	}
	return len(kinds) == len(segments)
}

// naiveBefore says whether a is more specific than b; both match.
func naiveBefore(a, b *Route, host string) bool {
	rank := func(r *Route) int {
		switch {
		case r.Host == host && host != "":
			return 1000
		case r.Host == "":
			return 0
		default:
			return len(r.Host)
		}
	}
	if rank(a) != rank(b) {
		return rank(a) > rank(b)
	}
	return slices.Compare(naiveKinds(a.Path), naiveKinds(b.Path)) < 0
}

// Few different words, so that many routes match each request.
var (
	words   = []string{"a", "b", "c"}
	hosts   = []string{"", "", "x.test", "a.x.test", "b.a.x.test", "*.test", "*.x.test", "*.a.x.test"}
	methods = []string{"GET", "HEAD", "POST", "PUT", "PURGE"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func randomPath(r *rand.Rand, parameters bool) string {
	var b strings.Builder
	n := r.IntN(5)
	for i := range n {
		switch k := r.IntN(10); {
		case parameters && k < 3:
			fmt.Fprintf(&b, "/{p%d}", i)
		case parameters && k < 5 && i == n-1:
			fmt.Fprintf(&b, "/{p%d...}", i)
		default:
			b.WriteString("/" + pick(r, words))
		}
	}
	if n == 0 || r.IntN(8) == 0 {
		b.WriteByte('/')
	}
	return b.String()
}

// randomRoutes are up to n routes of which no two take the same requests.
func randomRoutes(t testing.TB, r *rand.Rand, n int) []Route {
	var list []Route
	for i := range n {
		route := Route{Name: fmt.Sprintf("r%d", i), Public: true, Host: pick(r, hosts), Path: randomPath(r, true)}
		for range r.IntN(3) {
			route.Methods = append(route.Methods, pick(r, methods))
		}
		route, err := route.Normal()
		backendtest.Must(t, err)
		if _, err := NewTable(append(slices.Clip(list), route)); err == nil {
			list = append(list, route)
		}
	}
	return list
}

func TestMatchAgreesWithNaive(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 1)) // the same cases in each run
	requests, matched := 0, 0
	for requests < 20_000 {
		list := randomRoutes(t, r, 1+r.IntN(40))
		table, err := NewTable(list)
		backendtest.Must(t, err)
		for range 200 {
			requests++
			method, host, path := pick(r, methods), strings.Replace(pick(r, hosts), "*", "z", 1), randomPath(r, false)
			want := naive(list, method, host, naiveSegments(path))
			if want != "-" {
				matched++
			}
			if got := name(t, table, method, host, path); got != want {
				t.Fatalf("%s %q %s: %s, want %s, of %+v", method, host, path, got, want, list)
			}
		}
	}
	if matched < requests/5 || matched > requests*9/10 {
		t.Errorf("%d of %d requests have a route: too few or too many to show much", matched, requests)
	}
}
