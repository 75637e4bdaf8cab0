package routes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const columns = `name, description, host, methods, path, permission, authenticated, public,
	resource, cost, upstream, context, created_at, updated_at`

type row struct {
	Name          string `db:"name"`
	Description   string `db:"description"`
	Host          string `db:"host"`
	Methods       string `db:"methods"`
	Path          string `db:"path"`
	Permission    string `db:"permission"`
	Authenticated int    `db:"authenticated"`
	Public        int    `db:"public"`
	Resource      string `db:"resource"`
	Cost          int64  `db:"cost"`
	Upstream      string `db:"upstream"`
	Context       string `db:"context"`
	CreatedAt     int64  `db:"created_at"`
	UpdatedAt     int64  `db:"updated_at"`
}

func (r row) route() (Route, error) {
	route := Route{
		Name: r.Name, Description: r.Description, Host: r.Host, Path: r.Path, Permission: r.Permission,
		Authenticated: r.Authenticated != 0, Public: r.Public != 0, Resource: r.Resource, Cost: r.Cost, Upstream: r.Upstream,
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), UpdatedAt: time.UnixMicro(r.UpdatedAt).UTC(),
	}
	if err := json.Unmarshal([]byte(r.Methods), &route.Methods); err != nil {
		return Route{}, fmt.Errorf("decode methods of route %q: %w", r.Name, err)
	}
	if err := json.Unmarshal([]byte(r.Context), &route.Context); err != nil {
		return Route{}, fmt.Errorf("decode context of route %q: %w", r.Name, err)
	}
	return route, nil
}

// lockWriters makes transactions that write routes wait for each other: what one
// reads of the routes after it holds until it commits.
func lockWriters(ctx context.Context, q database.Queries) error {
	n, err := q.Exec(ctx, `UPDATE route_writers SET id = id WHERE id = 1`)
	if err == nil && n != 1 {
		err = errors.New("the table route_writers has lost its row")
	}
	if err != nil {
		return fmt.Errorf("wait for other writers of routes: %w", err)
	}
	return nil
}

// allRoutes returns every route, by name.
func allRoutes(ctx context.Context, q database.Queries) ([]Route, error) {
	return database.Select(ctx, q, row.route, `SELECT `+columns+` FROM routes ORDER BY name`)
}

// listRoutes returns up to n routes with names after one, by name.
func listRoutes(ctx context.Context, q database.Queries, after string, n int) ([]Route, error) {
	return database.Select(ctx, q, row.route, `SELECT `+columns+` FROM routes WHERE name > $1 ORDER BY name LIMIT $2`, after, n)
}

// shapedRoutes returns all routes but one that have a shape.
func shapedRoutes(ctx context.Context, q database.Queries, shape, but string) ([]Route, error) {
	return database.Select(ctx, q, row.route, `SELECT `+columns+` FROM routes WHERE shape = $1 AND name <> $2 ORDER BY name`, shape, but)
}

// getRoute returns database.ErrNoRows when there is none.
func getRoute(ctx context.Context, q database.Queries, name string) (Route, error) {
	if !roles.ValidName(name) {
		return Route{}, database.ErrNoRows
	}
	return database.Get(ctx, q, row.route, `SELECT `+columns+` FROM routes WHERE name = $1`, name)
}

// total counts all routes but one, and what they take in characters.
func total(ctx context.Context, q database.Queries, but string) (n, size int, err error) {
	var sum struct {
		N    int `db:"n"`
		Size int `db:"size"`
	}
	err = q.Get(ctx, &sum, `SELECT COUNT(*) AS n, COALESCE(SUM(LENGTH(description) + LENGTH(host) + LENGTH(methods) +
		LENGTH(path) + LENGTH(permission) + LENGTH(resource) + LENGTH(upstream) + LENGTH(context)), 0) AS size
		FROM routes WHERE name <> $1`, but)
	return sum.N, sum.Size, err
}

// size is what a route adds to the total.
func (r Route) size() int {
	n := 0
	for _, text := range []string{r.Description, r.Host, database.JSON(r.Methods), r.Path, r.Permission, r.Resource, r.Upstream, facts(r.Context)} {
		n += utf8.RuneCountInString(text)
	}
	return n
}

// insertRoute returns database.ErrExists when the name is taken.
func insertRoute(ctx context.Context, q database.Queries, r Route, shape string) error {
	_, err := q.Exec(ctx, `INSERT INTO routes (`+columns+`, shape)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		r.Name, r.Description, r.Host, database.JSON(r.Methods), r.Path, r.Permission, flag(r.Authenticated), flag(r.Public),
		r.Resource, r.Cost, r.Upstream, facts(r.Context), r.CreatedAt.UnixMicro(), r.UpdatedAt.UnixMicro(), shape)
	return err
}

// updateRoute writes everything that can change.
func updateRoute(ctx context.Context, q database.Queries, r Route, shape string) error {
	_, err := q.Exec(ctx, `UPDATE routes SET description = $2, host = $3, methods = $4, path = $5, permission = $6,
		authenticated = $7, public = $8, resource = $9, cost = $10, upstream = $11, context = $12, updated_at = $13,
		shape = $14 WHERE name = $1`,
		r.Name, r.Description, r.Host, database.JSON(r.Methods), r.Path, r.Permission, flag(r.Authenticated), flag(r.Public),
		r.Resource, r.Cost, r.Upstream, facts(r.Context), r.UpdatedAt.UnixMicro(), shape)
	return err
}

func deleteRoute(ctx context.Context, q database.Queries, name string) error {
	_, err := q.Exec(ctx, `DELETE FROM routes WHERE name = $1`, name)
	return err
}

func flag(is bool) int {
	if is {
		return 1
	}
	return 0
}

// facts is a context as a column holds it.
func facts(context map[string]string) string {
	if context == nil {
		return "{}"
	}
	text, err := json.Marshal(context)
	if err != nil {
		panic("routes: " + err.Error()) // a map of texts always encodes
	}
	return string(text)
}
