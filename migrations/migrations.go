// Package migrations holds the schema, in both dialects: the same numbers, the
// same tables, the same columns.
package migrations

import "embed"

// Files holds postgres/*.sql and sqlite/*.sql, in the form of sql-migrate.
//
//go:embed postgres/*.sql sqlite/*.sql
var Files embed.FS
