package recordings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const columns = `name, description, permission, sample, created_at, updated_at`

type row struct {
	Name        string `db:"name"`
	Description string `db:"description"`
	Permission  string `db:"permission"`
	Sample      int64  `db:"sample"`
	CreatedAt   int64  `db:"created_at"`
	UpdatedAt   int64  `db:"updated_at"`
}

func (r row) recording() (Recording, error) {
	return Recording{
		Name: r.Name, Description: r.Description, Permission: r.Permission, Sample: r.Sample,
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), UpdatedAt: time.UnixMicro(r.UpdatedAt).UTC(),
	}, nil
}

// lockWriters makes transactions that write recordings wait for each other, and returns
// how many there are: what one reads after it holds until it commits.
func lockWriters(ctx context.Context, q database.Queries) (int, error) {
	n, err := q.Exec(ctx, `UPDATE recording_seed SET id = id WHERE id = 1`)
	if err == nil && n != 1 {
		err = errSeed
	}
	var there int
	if err == nil {
		err = q.Get(ctx, &there, `SELECT COUNT(*) FROM recordings`)
	}
	if err != nil {
		return 0, fmt.Errorf("wait for other writers of recordings: %w", err)
	}
	return there, nil
}

var errSeed = errors.New("the table recording_seed has lost its row")

// readSeed returns the secret that decides which calls are in a sample.
func readSeed(ctx context.Context, q database.Queries) (seed string, err error) {
	err = q.Get(ctx, &seed, `SELECT seed FROM recording_seed WHERE id = 1`)
	if errors.Is(err, database.ErrNoRows) {
		err = errSeed
	}
	if err != nil {
		return "", fmt.Errorf("read the seed of samples: %w", err)
	}
	return seed, nil
}

// allRecordings returns every recording, by name.
func allRecordings(ctx context.Context, q database.Queries) ([]Recording, error) {
	return database.Select(ctx, q, row.recording, `SELECT `+columns+` FROM recordings ORDER BY name`)
}

// listRecordings returns up to n recordings with names after one, by name.
func listRecordings(ctx context.Context, q database.Queries, after string, n int) ([]Recording, error) {
	return database.Select(ctx, q, row.recording, `SELECT `+columns+` FROM recordings WHERE name > $1 ORDER BY name LIMIT $2`, after, n)
}

// getRecording returns database.ErrNoRows when there is none.
func getRecording(ctx context.Context, q database.Queries, name string) (Recording, error) {
	if !roles.ValidName(name) {
		return Recording{}, database.ErrNoRows
	}
	return database.Get(ctx, q, row.recording, `SELECT `+columns+` FROM recordings WHERE name = $1`, name)
}

// insertRecording returns database.ErrExists when the name is taken.
func insertRecording(ctx context.Context, q database.Queries, r Recording) error {
	_, err := q.Exec(ctx, `INSERT INTO recordings (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.Name, r.Description, r.Permission, r.Sample, r.CreatedAt.UnixMicro(), r.UpdatedAt.UnixMicro())
	return err
}

// updateRecording writes everything that can change.
func updateRecording(ctx context.Context, q database.Queries, r Recording) error {
	_, err := q.Exec(ctx, `UPDATE recordings SET description = $2, permission = $3, sample = $4, updated_at = $5 WHERE name = $1`,
		r.Name, r.Description, r.Permission, r.Sample, r.UpdatedAt.UnixMicro())
	return err
}

func deleteRecording(ctx context.Context, q database.Queries, name string) error {
	_, err := q.Exec(ctx, `DELETE FROM recordings WHERE name = $1`, name)
	return err
}
