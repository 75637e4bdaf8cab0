package database

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// argumentsAtOnce is about how many arguments one statement of Insert has. Both
// databases take more; from here on a row costs no less.
const argumentsAtOnce = 1500

// Insert writes rows into a table, in as few statements as the database takes: in args
// each row's values follow the one's before it, in the order of columns ("id, name").
func (q queries) Insert(ctx context.Context, table, columns string, args []any) error {
	width := 1 + strings.Count(columns, ",")
	for part := range slices.Chunk(args, max(1, argumentsAtOnce/width)*width) {
		if _, err := q.Exec(ctx, `INSERT INTO `+table+` (`+columns+`) VALUES `+q.values(len(part), width), part...); err != nil {
			return err
		}
	}
	return nil
}

// values is rows of width parameters each. SQLite looks every $n up among those before
// it, which takes longer than the rest of the statement when there are many.
func (q queries) values(n, width int) string {
	var rows strings.Builder
	for i := range n {
		switch {
		case i > 0 && i%width == 0:
			rows.WriteString("),(")
		case i > 0:
			rows.WriteByte(',')
		default:
			rows.WriteByte('(')
		}
		if q.Dialect == SQLite {
			rows.WriteByte('?')
		} else {
			rows.WriteByte('$')
			rows.WriteString(strconv.Itoa(i + 1))
		}
	}
	rows.WriteByte(')')
	return rows.String()
}
