package database_test

import (
	"slices"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

func TestArray(t *testing.T) {
	t.Parallel()
	db := backendtest.Open(t, backendtest.PostgreSQLURL(t))
	hostile := []string{
		"", "NULL", "null", `"`, `\`, `\"`, `\\`, `a\`, "{", "}", "{}", ",", `","`, `"},{"`, " ", " a ", "\n\r\t", "'", "''; DROP TABLE users; --", "$1", "\u00e4\u2028\U0001F600\uFFFD",
	}
	for _, want := range [][]string{{}, {""}, {"a"}, hostile} {
		var array database.Array
		var numbers database.Array
		for i, s := range want {
			array.Text(s)
			numbers.Number(int64(i - 1))
		}
		got := []string{}
		backendtest.Must(t, db.Select(t.Context(), &got, `SELECT s FROM unnest($1::text[], $2::bigint[]) AS u (s, n) ORDER BY n`, array.Arg(), numbers.Arg()))
		if !slices.Equal(got, want) {
			t.Errorf("%q became %q", want, got)
		}
	}
}

func TestWriteOne(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		const two = `INSERT INTO roles (name, permissions, created_at, updated_at) VALUES ($1,'[]',0,0), ($2,'[]',0,0)`
		backendtest.Must(t, db.WriteOne(t.Context(), two, "a", "b"))
		if err := db.WriteOne(t.Context(), two, "c", "b"); err == nil {
			t.Error("the same name twice was written")
		}
		var names []string
		backendtest.Must(t, db.Select(t.Context(), &names, `SELECT name FROM roles ORDER BY name`))
		backendtest.Equal(t, names, []string{"a", "b"}, "names")
	})
}
