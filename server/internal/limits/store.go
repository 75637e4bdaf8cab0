package limits

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const columns = `name, description, subject, permission, rate, period, burst, algorithm,
	mode, outage, context_key, overrides, builtin, created_at, updated_at, reset_at, lease, calendar, time_zone`

type row struct {
	Name        string    `db:"name"`
	Description string    `db:"description"`
	Subject     Subject   `db:"subject"`
	Permission  string    `db:"permission"`
	Rate        int64     `db:"rate"`
	Period      int64     `db:"period"` // microseconds
	Burst       int64     `db:"burst"`
	Algorithm   Algorithm `db:"algorithm"`
	Mode        Mode      `db:"mode"`
	Outage      Outage    `db:"outage"`
	ContextKey  string    `db:"context_key"`
	Overrides   string    `db:"overrides"`
	Builtin     int       `db:"builtin"`
	CreatedAt   int64     `db:"created_at"`
	UpdatedAt   int64     `db:"updated_at"`
	ResetAt     int64     `db:"reset_at"` // 0: never
	Lease       int64     `db:"lease"`    // microseconds; 0: none
	Calendar    Unit      `db:"calendar"`
	TimeZone    string    `db:"time_zone"`
}

// userAtIP is the context key of a limit for each user (others have none) that
// makes it one for each user at each address. Servers of the version before,
// which may run beside this one, do not know that subject: if it had a name of
// its own they would count all users together, and soon refuse all sign-ins.
// This way they count each user.
const userAtIP = "ip"

// subject is the limit's as stored, with the context key.
func (l Limit) subject() (Subject, string) {
	if l.Subject == SubjectUserIP {
		return SubjectUser, userAtIP
	}
	return l.Subject, l.ContextKey
}

func (r row) limit() (Limit, error) {
	l := Limit{
		Name: r.Name, Description: r.Description, Subject: r.Subject, Permission: r.Permission,
		Rate: r.Rate, Period: time.Duration(r.Period) * time.Microsecond, Burst: r.Burst,
		Algorithm: r.Algorithm, Mode: r.Mode, Outage: r.Outage, ContextKey: r.ContextKey,
		Builtin: r.Builtin != 0, CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), UpdatedAt: time.UnixMicro(r.UpdatedAt).UTC(),
		Lease: r.Lease != 0, LeaseTime: time.Duration(r.Lease) * time.Microsecond,
		Calendar: r.Calendar, TimeZone: r.TimeZone,
	}
	if r.ResetAt != 0 {
		l.ResetAt = time.UnixMicro(r.ResetAt).UTC()
	}
	if l.Subject == SubjectUser && l.ContextKey == userAtIP {
		l.Subject, l.ContextKey = SubjectUserIP, ""
	}
	if err := json.Unmarshal([]byte(r.Overrides), &l.Overrides); err != nil {
		return Limit{}, fmt.Errorf("decode overrides of limit %q: %w", r.Name, err)
	}
	return l, nil
}

// allLimits returns every limit, by name.
func allLimits(ctx context.Context, q database.Queries) ([]Limit, error) {
	return database.Select(ctx, q, row.limit, `SELECT `+columns+` FROM limits ORDER BY name`)
}

// listLimits returns up to n limits with names after one, by name.
func listLimits(ctx context.Context, q database.Queries, after string, n int) ([]Limit, error) {
	return database.Select(ctx, q, row.limit, `SELECT `+columns+` FROM limits WHERE name > $1 ORDER BY name LIMIT $2`, after, n)
}

// getLimit returns database.ErrNoRows when there is none.
func getLimit(ctx context.Context, q database.Queries, name string) (Limit, error) {
	if !roles.ValidName(name) {
		return Limit{}, database.ErrNoRows
	}
	return database.Get(ctx, q, row.limit, `SELECT `+columns+` FROM limits WHERE name = $1`, name)
}

// lockLimit is getLimit for a limit that no other transaction may change, remove
// or lock until this one ends.
func lockLimit(ctx context.Context, q database.Queries, name string) (Limit, error) {
	if !roles.ValidName(name) {
		return Limit{}, database.ErrNoRows
	}
	return database.Get(ctx, q, row.limit, `UPDATE limits SET updated_at = updated_at WHERE name = $1 RETURNING `+columns, name)
}

// insertLimit says whether it did: a limit of that name stays as it is.
func insertLimit(ctx context.Context, q database.Queries, l Limit) (bool, error) {
	builtin := 0
	if l.Builtin {
		builtin = 1
	}
	subject, contextKey := l.subject()
	n, err := q.Exec(ctx, `INSERT INTO limits (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 0, $16, $17, $18)
		ON CONFLICT (name) DO NOTHING`,
		l.Name, l.Description, string(subject), l.Permission, l.Rate, l.Period.Microseconds(), l.Burst,
		string(l.Algorithm), string(l.Mode), string(l.Outage), contextKey, database.JSON(l.Overrides), builtin,
		l.CreatedAt.UnixMicro(), l.UpdatedAt.UnixMicro(), l.LeaseTime.Microseconds(), string(l.Calendar), l.TimeZone)
	return n == 1, err
}

// updateLimit writes everything that can change.
func updateLimit(ctx context.Context, q database.Queries, l Limit) error {
	_, err := q.Exec(ctx, `UPDATE limits SET description = $2, permission = $3, rate = $4, period = $5, burst = $6,
		algorithm = $7, mode = $8, outage = $9, overrides = $10, updated_at = $11, lease = $12, calendar = $13,
		time_zone = $14 WHERE name = $1`,
		l.Name, l.Description, l.Permission, l.Rate, l.Period.Microseconds(), l.Burst,
		string(l.Algorithm), string(l.Mode), string(l.Outage), database.JSON(l.Overrides), l.UpdatedAt.UnixMicro(),
		l.LeaseTime.Microseconds(), string(l.Calendar), l.TimeZone)
	return err
}

func resetLimit(ctx context.Context, q database.Queries, name string, now int64) error {
	_, err := q.Exec(ctx, `UPDATE limits SET reset_at = $2 WHERE name = $1`, name, now)
	return err
}

func deleteLimit(ctx context.Context, q database.Queries, name string) error {
	_, err := q.Exec(ctx, `DELETE FROM limits WHERE name = $1`, name)
	return err
}
