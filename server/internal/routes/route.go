// Package routes keeps the route table: what a request to a protected service
// needs, by its host, path and method.
package routes

import (
	"time"
)

// Route says what the requests that it matches need. Exactly one of Permission,
// Authenticated and Public rules; beside the other two, Permission is only the
// name that limits match.
type Route struct {
	Name          string
	Description   string
	Host          string   // lower case; "*.example.com" for names below; empty: any
	Methods       []string // sorted, none twice; empty: all
	Path          string   // template
	Permission    string
	Authenticated bool
	Public        bool
	Resource      string // template
	Cost          int64  // 0: 1
	Upstream      string // empty: the gateway's default
	Context       map[string]string
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// Match is the route of a request, with the path's parameters filled in.
type Match struct {
	Route      *Route // shared: do not change it
	Parameters map[string]string
	Resource   string
	Context    map[string]string
}

// Table is all routes, compiled. It does not change. The zero Table has none.
type Table struct{}

// Match finds the route of a request by its method, its host, maybe with a port,
// and the path of its request target, as it was sent and without a query. It is
// false when there is none. The error is Invalid, PATH_REFUSED or HOST_REFUSED,
// for what is refused whatever the routes are.
func (t *Table) Match(method, host, path string) (m Match, ok bool, err error) {
	return Match{}, false, nil
}

// HasHosts says whether some route is for certain hosts, so that a request whose
// host is not known cannot be matched.
func (t *Table) HasHosts() bool { return false }
