package tree

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"golang.org/x/mod/sumdb/tlog"
)

const headColumns = `size, writer, position, floor`

func readHead(ctx context.Context, q database.Queries) (Head, time.Time, error) {
	var row struct {
		Head

		At int64 `db:"at"`
	}
	err := q.Get(ctx, &row, `SELECT `+headColumns+`, COALESCE((SELECT at FROM audit_checkpoints ORDER BY size DESC LIMIT 1), 0) AS at
		FROM audit_head WHERE id = 1`)
	if err != nil {
		return Head{}, time.Time{}, fmt.Errorf("read the audit log's head: %w", err)
	}
	return row.Head, time.UnixMicro(row.At), nil
}

// lockHead reads the head and keeps it from others until the commit; ok is false when
// another has it.
func lockHead(ctx context.Context, tx *database.Tx) (head Head, ok bool, err error) {
	statement := `SELECT ` + headColumns + ` FROM audit_head WHERE id = 1`
	if tx.Dialect == database.PostgreSQL { // SQLite's transaction is the only one that writes
		statement += ` FOR UPDATE SKIP LOCKED`
	}
	err = tx.Get(ctx, &head, statement)
	if errors.Is(err, database.ErrNoRows) {
		return head, false, nil
	}
	return head, err == nil, err
}

// waitHead waits until nobody appends, and keeps it so until the commit.
func waitHead(ctx context.Context, tx *database.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE audit_head SET size = size WHERE id = 1`)
	return err
}

func updateHead(ctx context.Context, tx *database.Tx, head Head) error {
	_, err := tx.Exec(ctx, `UPDATE audit_head SET size = $1, writer = $2, position = $3, floor = $4 WHERE id = 1`,
		head.Size, head.Writer, head.Position, head.Floor)
	return err
}

// readTile reads a tile's hashes, as many as its width or more.
func readTile(ctx context.Context, q database.Queries, tile auditlog.Tile) ([]byte, error) {
	data, err := tileData(ctx, q, tile.Level, tile.N)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", tile.Path(), err)
	}
	if len(data) < tile.Width*tlog.HashSize {
		return nil, fmt.Errorf("read %s: %w", tile.Path(), database.ErrNoRows)
	}
	return data, nil
}

func tileData(ctx context.Context, q database.Queries, level int, n int64) (data []byte, err error) {
	err = q.Get(ctx, &data, `SELECT data FROM audit_tiles WHERE level = $1 AND n = $2`, level, n)
	return data, err
}

func writeTile(ctx context.Context, tx *database.Tx, tile tlog.Tile, data []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit_tiles (level, n, data) VALUES ($1, $2, $3)
		ON CONFLICT (level, n) DO UPDATE SET data = excluded.data`, tile.L, tile.N, data)
	return err
}

func insertLeaves(ctx context.Context, tx *database.Tx, first int64, records []Record) error {
	if tx.Dialect == database.PostgreSQL {
		var leaves, ids, times, salts, addresses database.Array
		for i, r := range records {
			leaves.Number(first + int64(i))
			ids.Text(r.EventID)
			times.Number(r.Time)
			salts.Text(hex.EncodeToString(r.Salt))
			addresses.Text(r.Address)
		}
		_, err := tx.Exec(ctx, `INSERT INTO audit_leaves (leaf, event_id, time, salt, address)
			SELECT l, e, t, decode(s, 'hex'), a FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[]) AS r (l, e, t, s, a)`,
			leaves.Arg(), ids.Arg(), times.Arg(), salts.Arg(), addresses.Arg())
		return err
	}
	args := make([]any, 0, 5*len(records))
	for i, r := range records {
		args = append(args, first+int64(i), r.EventID, r.Time, r.Salt, r.Address)
	}
	return tx.Insert(ctx, "audit_leaves", "leaf, event_id, time, salt, address", args)
}

type checkpointRow struct {
	Size int64  `db:"size"`
	At   int64  `db:"at"`
	Note string `db:"note"`
}

const checkpointColumns = `size, at, note`

func (r checkpointRow) signed() (Signed, error) {
	c, err := auditlog.ParseCheckpoint(r.Note)
	if err != nil {
		return Signed{}, fmt.Errorf("the checkpoint of size %d: %w", r.Size, err)
	}
	return Signed{c, []byte(r.Note), time.UnixMicro(r.At).UTC()}, nil
}

func insertCheckpoint(ctx context.Context, tx *database.Tx, c Signed) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit_checkpoints (`+checkpointColumns+`) VALUES ($1, $2, $3)`, c.Size, c.At.UnixMicro(), string(c.Note))
	return err
}

func latestCheckpoint(ctx context.Context, q database.Queries) (Signed, error) {
	return database.Get(ctx, q, checkpointRow.signed, `SELECT `+checkpointColumns+` FROM audit_checkpoints ORDER BY size DESC LIMIT 1`)
}

func listCheckpoints(ctx context.Context, q database.Queries, above int64, limit int) ([]Signed, error) {
	return database.Select(ctx, q, checkpointRow.signed, `SELECT `+checkpointColumns+` FROM audit_checkpoints
		WHERE size > $1 ORDER BY size LIMIT $2`, above, limit)
}

func thinCheckpoints(ctx context.Context, tx *database.Tx, before time.Time) error {
	_, err := tx.Exec(ctx, `DELETE FROM audit_checkpoints WHERE at < $1 AND size NOT IN (
		SELECT MAX(size) FROM audit_checkpoints GROUP BY at / 3600000000)`, before.UnixMicro())
	return err
}

// deleteTree leaves the log without a tree and keys. Events whose transactions another
// PostgreSQL server counted come before those of this one.
func deleteTree(ctx context.Context, tx *database.Tx) error {
	statements := []string{
		`DELETE FROM audit_checkpoints`, `DELETE FROM audit_tiles`, `DELETE FROM audit_leaves`, `DELETE FROM audit_keys`,
		`DELETE FROM audit_dropped_leaves`, // or leaves of the new tree go
		`UPDATE audit_head SET size = 0, writer = 0, position = 0, floor = 0 WHERE id = 1`,
	}
	if tx.Dialect == database.PostgreSQL {
		statements = append(statements, `UPDATE audit_events SET writer = 0 WHERE writer > pg_current_xact_id()::text::bigint`)
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// keyRow is a row of audit_keys. PrivateKey is sealed.
type keyRow struct {
	ID         string `db:"id"`
	Name       string `db:"name"`
	PublicKey  []byte `db:"public_key"`
	PrivateKey []byte `db:"private_key"`
	CreatedAt  int64  `db:"created_at"`
	RetiredAt  *int64 `db:"retired_at"`
}

func insertKey(ctx context.Context, tx *database.Tx, row keyRow) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit_keys (id, name, public_key, private_key, created_at) VALUES ($1, $2, $3, $4, $5)`,
		row.ID, row.Name, row.PublicKey, row.PrivateKey, row.CreatedAt)
	return err
}

func listKeys(ctx context.Context, q database.Queries) (rows []keyRow, err error) {
	err = q.Select(ctx, &rows, `SELECT id, name, public_key, private_key, created_at, retired_at FROM audit_keys ORDER BY created_at DESC, id`)
	return rows, err
}

func retireKeys(ctx context.Context, tx *database.Tx, now time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE audit_keys SET retired_at = $1 WHERE retired_at IS NULL`, now.UnixMicro())
	return err
}

func updateSealed(ctx context.Context, tx *database.Tx, row keyRow) error {
	_, err := tx.Exec(ctx, `UPDATE audit_keys SET private_key = $1 WHERE id = $2`, row.PrivateKey, row.ID)
	return err
}

// addSignature adds a signature line to a checkpoint that has none that begins so.
func addSignature(ctx context.Context, tx *database.Tx, size int64, begins, line string) error {
	_, err := tx.Exec(ctx, `UPDATE audit_checkpoints SET note = note || $1 WHERE size = $2 AND replace(note, $3, '') = note`, line, size, begins)
	return err
}
