package database_test

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

var (
	parameter = regexp.MustCompile(`\$(\d+)`)
	insert    = regexp.MustCompile(`^INSERT INTO (\w+) \(([^)]*)\)`)
)

// During a rolling deployment a server of a previous schema runs on the newest
// one: its statements are still understood, and its rows are whole.
func TestStatementsOfThePreviousSchema(t *testing.T) {
	t.Parallel()
	const folder = "../../../migrations/testdata/"
	for _, file := range []string{"0001_statements.sql", "0002_statements.sql", "0003_statements.sql"} {
		t.Run(file, func(t *testing.T) { understood(t, folder+file) })
	}
}

func understood(t *testing.T, name string) {
	file, err := os.ReadFile(name)
	backendtest.Must(t, err)
	var statements []string
	for line := range strings.Lines(string(file)) {
		if statement, ok := strings.CutSuffix(strings.TrimSpace(line), ";"); ok && !strings.HasPrefix(line, "--") {
			statements = append(statements, statement)
		}
	}
	if len(statements) < 50 {
		t.Fatalf("only %d statements", len(statements))
	}
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		for i, statement := range statements {
			var err error
			switch {
			case db.Dialect == database.PostgreSQL:
				_, err = db.Exec(t.Context(), "PREPARE old_"+strconv.Itoa(i)+" AS "+statement)
			case strings.Contains(statement, "pg_"): // the audit watch asks SQLite something else
			default:
				var most int
				for _, m := range parameter.FindAllStringSubmatch(statement, -1) {
					n, _ := strconv.Atoi(m[1])
					most = max(most, n)
				}
				_, err = db.Exec(t.Context(), "EXPLAIN "+statement, make([]any, most)...)
			}
			if err != nil {
				t.Errorf("%s\n%v", statement, err)
			}
			if m := insert.FindStringSubmatch(statement); m != nil {
				given := strings.Split(strings.ReplaceAll(m[2], " ", ""), ",")
				for _, column := range needed(t, db, m[1]) {
					if !slices.Contains(given, column) {
						t.Errorf("%s.%s needs a default: the previous server does not give it", m[1], column)
					}
				}
			}
		}
	})
}

// needed are the columns that an INSERT must give.
func needed(t *testing.T, db *database.DB, table string) []string {
	t.Helper()
	query := `SELECT name FROM pragma_table_info($1) WHERE "notnull" = 1 AND dflt_value IS NULL AND pk = 0`
	if db.Dialect == database.PostgreSQL {
		query = `SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1
			AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' AND is_generated = 'NEVER'`
	}
	var columns []string
	backendtest.Must(t, db.Select(t.Context(), &columns, query, table))
	return columns
}
