package roles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

const roleColumns = `name, description, permissions, builtin, created_at, updated_at, grants, inherits`

type roleRow struct {
	Name        string `db:"name"`
	Description string `db:"description"`
	Permissions string `db:"permissions"`
	Builtin     int    `db:"builtin"`
	CreatedAt   int64  `db:"created_at"`
	UpdatedAt   int64  `db:"updated_at"`
	Grants      string `db:"grants"`
	Inherits    string `db:"inherits"`
}

func (r roleRow) role() (Role, error) {
	role := Role{
		Name: r.Name, Description: r.Description, Builtin: r.Builtin != 0,
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), UpdatedAt: time.UnixMicro(r.UpdatedAt).UTC(),
	}
	for _, list := range []struct {
		text string
		into any
	}{{r.Permissions, &role.Permissions}, {r.Grants, &role.Grants}, {r.Inherits, &role.Inherits}} {
		if err := json.Unmarshal([]byte(list.text), list.into); err != nil {
			return Role{}, fmt.Errorf("decode role %q: %w", r.Name, err)
		}
	}
	return role, nil
}

// getRole returns database.ErrNoRows when there is none.
func getRole(ctx context.Context, q database.Queries, name string) (Role, error) {
	if !ValidName(name) {
		return Role{}, database.ErrNoRows
	}
	return database.Get(ctx, q, roleRow.role, `SELECT `+roleColumns+` FROM roles WHERE name = $1`, name)
}

// lockRole is getRole for a role that no other transaction may change, remove or
// lock until this one ends. Locks are always taken in the order role, user.
func lockRole(ctx context.Context, q database.Queries, name string) (Role, error) {
	if !ValidName(name) {
		return Role{}, database.ErrNoRows
	}
	return database.Get(ctx, q, roleRow.role, `UPDATE roles SET updated_at = updated_at WHERE name = $1 RETURNING `+roleColumns, name)
}

func allRoles(ctx context.Context, q database.Queries) ([]Role, error) {
	return database.Select(ctx, q, roleRow.role, `SELECT `+roleColumns+` FROM roles`)
}

// listRoles returns at most limit roles after a name.
func listRoles(ctx context.Context, q database.Queries, after string, limit int) ([]Role, error) {
	return database.Select(ctx, q, roleRow.role, `SELECT `+roleColumns+` FROM roles WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// rolesNamed returns those of the roles that exist.
func rolesNamed(ctx context.Context, q database.Queries, names []string) ([]Role, error) {
	if len(names) == 0 {
		return nil, nil
	}
	places, args := make([]string, len(names)), make([]any, len(names))
	for i, name := range names {
		places[i], args[i] = fmt.Sprintf("$%d", i+1), name
	}
	return database.Select(ctx, q, roleRow.role, `SELECT `+roleColumns+` FROM roles WHERE name IN (`+strings.Join(places, ",")+`)`, args...)
}

// heirs are roles that inherit others.
func heirs(ctx context.Context, q database.Queries) ([]Role, error) {
	return database.Select(ctx, q, roleRow.role, `SELECT `+roleColumns+` FROM roles WHERE inherits <> '[]'`)
}

// withGrants are roles whose grants hold a text.
func withGrants(ctx context.Context, q database.Queries, text string) ([]Role, error) {
	return database.Select(ctx, q, roleRow.role, `SELECT `+roleColumns+` FROM roles WHERE grants LIKE $1`, "%"+text+"%")
}

func countRoles(ctx context.Context, q database.Queries) (n int, err error) {
	err = q.Get(ctx, &n, `SELECT COUNT(*) FROM roles`)
	return n, err
}

// insertRole returns database.ErrExists when the name is taken.
func insertRole(ctx context.Context, q database.Queries, r Role) error {
	_, err := q.Exec(ctx, `INSERT INTO roles (`+roleColumns+`) VALUES ($1,$2,$3,0,$4,$5,$6,$7)`,
		r.Name, r.Description, database.JSON(r.Permissions), r.CreatedAt.UnixMicro(), r.UpdatedAt.UnixMicro(),
		database.JSON(r.Grants), database.JSON(r.Inherits))
	return err
}

// upsertBuiltin says whether the role was missing or different.
func upsertBuiltin(ctx context.Context, q database.Queries, r Role, now int64) (bool, error) {
	n, err := q.Exec(ctx, `INSERT INTO roles (`+roleColumns+`) VALUES ($1,$2,$3,1,$4,$4,'[]','[]')
		ON CONFLICT (name) DO UPDATE SET description = excluded.description, permissions = excluded.permissions,
			grants = '[]', inherits = '[]', builtin = 1, updated_at = excluded.updated_at
		WHERE roles.description <> excluded.description OR roles.permissions <> excluded.permissions OR roles.builtin <> 1
			OR roles.grants <> '[]' OR roles.inherits <> '[]'`,
		r.Name, r.Description, database.JSON(r.Permissions), now)
	return n > 0, err
}

func updateRole(ctx context.Context, q database.Queries, r Role) error {
	_, err := q.Exec(ctx, `UPDATE roles SET description = $2, permissions = $3, updated_at = $4, grants = $5, inherits = $6 WHERE name = $1`,
		r.Name, r.Description, database.JSON(r.Permissions), r.UpdatedAt.UnixMicro(), database.JSON(r.Grants), database.JSON(r.Inherits))
	return err
}

func deleteRole(ctx context.Context, q database.Queries, name string) error {
	_, err := q.Exec(ctx, `DELETE FROM roles WHERE name = $1`, name)
	return err
}

// assignment is one role of a user.
type assignment struct {
	Role    string `db:"role"`
	Expires *int64 `db:"expires_at"` // microseconds; nil: never
}

// listAssignments returns all of a user's, ended ones too.
func listAssignments(ctx context.Context, q database.Queries, userID string) ([]assignment, error) {
	var list []assignment
	err := q.Select(ctx, &list, `SELECT role, expires_at FROM memberships WHERE user_id = $1`, userID)
	return list, err
}

// listHeld returns the assignments of a user that are in force at a time, in
// microseconds; with enabled, nothing for a disabled user.
func listHeld(ctx context.Context, q database.Queries, userID string, now int64, enabled bool) ([]assignment, error) {
	only := 0
	if enabled {
		only = 1
	}
	var list []assignment
	err := q.Select(ctx, &list, `SELECT m.role, m.expires_at FROM memberships m JOIN users u ON u.id = m.user_id
		WHERE m.user_id = $1 AND (m.expires_at IS NULL OR m.expires_at > $2) AND ($3 = 0 OR u.disabled_at IS NULL)`,
		userID, now, only)
	return list, err
}

type memberRow struct {
	Role       string `db:"role"`
	UserID     string `db:"user_id"`
	Username   string `db:"username"`
	AssignedAt int64  `db:"assigned_at"`
	ExpiresAt  *int64 `db:"expires_at"`
}

func (r memberRow) member() (Member, error) {
	return Member{
		Role: r.Role, UserID: r.UserID, Username: r.Username,
		AssignedAt: time.UnixMicro(r.AssignedAt).UTC(), ExpiresAt: database.Time(r.ExpiresAt),
	}, nil
}

// listMembers returns at most limit users after a user id who hold the role.
func listMembers(ctx context.Context, q database.Queries, role, after string, now int64, limit int) ([]Member, error) {
	return database.Select(ctx, q, memberRow.member, `SELECT m.role, m.user_id, u.username, m.assigned_at, m.expires_at
		FROM memberships m JOIN users u ON u.id = m.user_id
		WHERE m.role = $1 AND m.user_id > $2 AND (m.expires_at IS NULL OR m.expires_at > $3)
		ORDER BY m.user_id LIMIT $4`, role, after, now, limit)
}

// lockUser returns the user's name and keeps others from giving them roles
// until the transaction ends.
func lockUser(ctx context.Context, q database.Queries, userID string) (username string, err error) {
	err = q.Get(ctx, &username, `UPDATE users SET updated_at = updated_at WHERE id = $1 RETURNING username`, userID)
	return username, err
}

// deleteEndedMembers deletes the user's memberships that are over and counts what
// is left besides one role.
func deleteEndedMembers(ctx context.Context, q database.Queries, userID, besides string, now int64) (left int, err error) {
	if _, err := q.Exec(ctx, `DELETE FROM memberships WHERE user_id = $1 AND expires_at <= $2`, userID, now); err != nil {
		return 0, err
	}
	err = q.Get(ctx, &left, `SELECT COUNT(*) FROM memberships WHERE user_id = $1 AND role <> $2`, userID, besides)
	return left, err
}

// upsertMember adds a member or changes when the membership ends, and returns
// when it began.
func upsertMember(ctx context.Context, q database.Queries, role, userID string, now int64, expires *int64) (assigned int64, err error) {
	err = q.Get(ctx, &assigned, `INSERT INTO memberships (role, user_id, assigned_at, expires_at) VALUES ($1,$2,$3,$4)
		ON CONFLICT (role, user_id) DO UPDATE SET expires_at = excluded.expires_at
		RETURNING assigned_at`, role, userID, now, expires)
	return assigned, err
}

// deleteMember says whether the user held the role.
func deleteMember(ctx context.Context, q database.Queries, role, userID string, now int64) (bool, error) {
	n, err := q.Exec(ctx, `DELETE FROM memberships
		WHERE role = $1 AND user_id = $2 AND (expires_at IS NULL OR expires_at > $3)`, role, userID, now)
	return n > 0, err
}

// lockAdministrators says whether the user is an administrator without an end
// and no other is a person who can sign in: enabled, with a password. Callers
// run one at a time: it locks the role.
func lockAdministrators(ctx context.Context, q database.Queries, userID string) (bool, error) {
	if _, err := lockRole(ctx, q, Administrator); err != nil && !errors.Is(err, database.ErrNoRows) {
		return false, err
	}
	var count struct {
		Leaving int `db:"leaving"`
		Staying int `db:"staying"`
	}
	// A statement of its own, after the lock: on PostgreSQL it sees what the
	// lock's previous holder committed.
	err := q.Get(ctx, &count, `SELECT
		COUNT(CASE WHEN m.user_id = $2 THEN 1 END) AS leaving,
		COUNT(CASE WHEN m.user_id <> $2 AND u.disabled_at IS NULL
			AND u.kind = 'person' AND u.password_hash <> '' THEN 1 END) AS staying
		FROM memberships m JOIN users u ON u.id = m.user_id
		WHERE m.role = $1 AND m.expires_at IS NULL`, Administrator, userID)
	return count.Leaving > 0 && count.Staying == 0, err
}

// findUser returns database.ErrNoRows when there is none.
func findUser(ctx context.Context, q database.Queries, userID string) error {
	var id string
	return q.Get(ctx, &id, `SELECT id FROM users WHERE id = $1`, userID)
}

// rolesOfUser returns what a user holds at a time, in microseconds, by role.
func rolesOfUser(ctx context.Context, q database.Queries, userID string, now int64) ([]Member, error) {
	return database.Select(ctx, q, memberRow.member, `SELECT m.role, m.user_id, u.username, m.assigned_at, m.expires_at
		FROM memberships m JOIN users u ON u.id = m.user_id
		WHERE m.user_id = $1 AND (m.expires_at IS NULL OR m.expires_at > $2) ORDER BY m.role`, userID, now)
}

// membersOfAny returns at most limit enabled users after a user id who hold one of
// the roles, each once.
func membersOfAny(ctx context.Context, q database.Queries, names []string, after string, now int64, limit int) ([]Member, error) {
	args := []any{after, now, limit}
	places := make([]string, len(names))
	for i, name := range names {
		args = append(args, name)
		places[i] = fmt.Sprintf("$%d", len(args))
	}
	return database.Select(ctx, q, memberRow.member, `SELECT '' AS role, u.id AS user_id, u.username, u.created_at AS assigned_at, NULL AS expires_at
		FROM users u WHERE u.id > $1 AND u.disabled_at IS NULL AND EXISTS (SELECT 1 FROM memberships m
			WHERE m.user_id = u.id AND (m.expires_at IS NULL OR m.expires_at > $2) AND m.role IN (`+strings.Join(places, ",")+`))
		ORDER BY u.id LIMIT $3`, args...)
}
