package routes

import (
	"fmt"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// manyRoutes are n routes of a few hosts, services and shapes.
func manyRoutes(n int) []Route {
	shapes := []string{"", "/{id}", "/{id}/items", "/{id}/items/{item}", "/search", "/files/{rest...}"}
	list := make([]Route, n)
	for i := range list {
		list[i] = Route{
			Name: fmt.Sprintf("r%d", i), Permission: "orders:read", Resource: "x/{id}",
			Path: fmt.Sprintf("/v1/service%d%s", i/len(shapes), shapes[i%len(shapes)]),
		}
		if i%len(shapes) == 0 || i%len(shapes) > 3 {
			list[i].Resource = "x"
		}
		if i%3 == 0 {
			list[i].Host = "*.example.com"
		}
	}
	return list
}

// The cost of a match does not follow the number of routes.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		table, err := NewTable(manyRoutes(n))
		backendtest.Must(b, err)
		path := fmt.Sprintf("/v1/service%d/%d/items", (n-4)/6, n)
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok, err := table.Match("GET", "api.example.com", path); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// The worst that a table can be: literals and parameters at the same places, in
// every combination, and a request that all but match.
func BenchmarkMatchWorst(b *testing.B) {
	list := make([]Route, 8192)
	for i := range list {
		path := ""
		for bit := range 13 {
			if i>>bit&1 == 1 {
				path += fmt.Sprintf("/{p%d}", bit)
			} else {
				path += "/a"
			}
		}
		list[i] = Route{Name: fmt.Sprintf("r%d", i), Public: true, Path: path + "/end"}
	}
	table, err := NewTable(list)
	backendtest.Must(b, err)
	for b.Loop() {
		if _, ok, err := table.Match("GET", "", "/a/a/a/a/a/a/a/a/a/a/a/a/a/other"); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkNewTable(b *testing.B) {
	list := manyRoutes(10_000)
	for b.Loop() {
		if _, err := NewTable(list); err != nil {
			b.Fatal(err)
		}
	}
}
