package database_test

import (
	"fmt"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestInsert: each row has its own values, however many statements it takes.
func TestInsert(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const columns = "revision, position, kind, subject, at"
		for revision, n := range []int{0, 1, 2, 299, 300, 301, 1000} {
			var args []any
			for i := range n {
				args = append(args, revision, i, "role", fmt.Sprint("subject-", i), 10*i)
			}
			backendtest.Must(t, db.Insert(t.Context(), "changes", columns, args))
			var found struct {
				N     int `db:"n"`
				Whole int `db:"whole"`
			}
			backendtest.Must(t, db.Get(t.Context(), &found, `SELECT COUNT(*) AS n,
				COUNT(CASE WHEN kind = 'role' AND at = 10 * position AND subject = 'subject-' || position THEN 1 END) AS whole
				FROM changes WHERE revision = $1`, revision))
			backendtest.Equal(t, found.N, n, "rows")
			backendtest.Equal(t, found.Whole, n, "rows with their own values")
		}
	})
}
