package resources

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/attributes"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const columns = `type, id, attributes, created_at, updated_at`

type row struct {
	Type       string `db:"type"`
	ID         string `db:"id"`
	Attributes string `db:"attributes"`
	CreatedAt  int64  `db:"created_at"`
	UpdatedAt  int64  `db:"updated_at"`
}

func (r row) resource() (Resource, error) {
	values, err := attributes.Decode(r.Attributes)
	if err != nil {
		return Resource{}, fmt.Errorf("resource %q of type %q: %w", r.ID, r.Type, err)
	}
	return Resource{
		Type: r.Type, ID: r.ID, Attributes: values,
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), UpdatedAt: time.UnixMicro(r.UpdatedAt).UTC(),
	}, nil
}

// getResource returns database.ErrNoRows when there is none.
func getResource(ctx context.Context, q database.Queries, k key) (Resource, error) {
	if !k.valid() {
		return Resource{}, database.ErrNoRows
	}
	return database.Get(ctx, q, row.resource, `SELECT `+columns+` FROM resources WHERE type = $1 AND id = $2`, k.kind, k.id)
}

// getAttributes returns the text of a resource's attributes.
func getAttributes(ctx context.Context, q database.Queries, k key) (text string, err error) {
	err = q.Get(ctx, &text, `SELECT attributes FROM resources WHERE type = $1 AND id = $2`, k.kind, k.id)
	return text, err
}

// lockResource locks a resource's row until the commit, and returns it as it was: with
// empty attributes when it made the row.
func lockResource(ctx context.Context, q database.Queries, k key, now int64) (was row, err error) {
	err = q.Get(ctx, &was, `INSERT INTO resources (`+columns+`) VALUES ($1, $2, '', $3, $3)
		ON CONFLICT (type, id) DO UPDATE SET updated_at = resources.updated_at RETURNING `+columns, k.kind, k.id, now)
	return was, err
}

// updateResource replaces a resource's attributes.
func updateResource(ctx context.Context, q database.Queries, k key, text string, now int64) error {
	_, err := q.Exec(ctx, `UPDATE resources SET attributes = $3, updated_at = $4 WHERE type = $1 AND id = $2`, k.kind, k.id, text, now)
	return err
}

// deleteResource returns the resource as it was; database.ErrNoRows when there is none.
func deleteResource(ctx context.Context, q database.Queries, k key) (Resource, error) {
	if !k.valid() {
		return Resource{}, database.ErrNoRows
	}
	return database.Get(ctx, q, row.resource, `DELETE FROM resources WHERE type = $1 AND id = $2 RETURNING `+columns, k.kind, k.id)
}

// listResources returns up to n resources after a cursor, of one type or of all.
func listResources(ctx context.Context, q database.Queries, kind string, after cursor, n int) ([]Resource, error) {
	if kind != "" {
		return database.Select(ctx, q, row.resource, `SELECT `+columns+` FROM resources
			WHERE type = $1 AND id > $2 ORDER BY id LIMIT $3`, kind, after.ID, n)
	}
	return database.Select(ctx, q, row.resource, `SELECT `+columns+` FROM resources
		WHERE (type, id) > ($1, $2) ORDER BY type, id LIMIT $3`, after.Type, after.ID, n)
}
