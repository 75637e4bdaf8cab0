// Package routes keeps the route table: what a request to a protected service
// needs, by its host, path and method.
package routes

import (
	"time"

	"github.com/tollgatehq/tollgate/server/internal/contract"
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

// Counted is the permission that a request counts under: the one it needs, or the
// name that limits match.
func (r *Route) Counted() string {
	switch {
	case r.Permission != "":
		return r.Permission
	case r.Public:
		return contract.ActionPublic
	default:
		return contract.ActionAuthenticated
	}
}

// Match is the route of a request, with the path's parameters filled in.
type Match struct {
	Route      *Route // shared: do not change it
	Parameters map[string]string
	Resource   string
	Context    map[string]string
}
