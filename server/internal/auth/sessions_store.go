package auth

import (
	"context"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const sessionColumns = `id, user_id, generation, token_hash, created_at, refreshed_at, idle_expires_at, expires_at, ip, user_agent, network, audience, second_factor`

// sessionRow is a session. Its idle end is never after its absolute end, so it
// lives until IdleExpiresAt unless it is revoked.
type sessionRow struct {
	ID            string `db:"id"`
	UserID        string `db:"user_id"`
	Generation    int64  `db:"generation"`
	TokenHash     []byte `db:"token_hash"`
	CreatedAt     int64  `db:"created_at"`
	RefreshedAt   int64  `db:"refreshed_at"`
	IdleExpiresAt int64  `db:"idle_expires_at"`
	ExpiresAt     int64  `db:"expires_at"`
	IP            string `db:"ip"`
	UserAgent     string `db:"user_agent"`
	Network       string `db:"network"`       // what limits count the address under
	Audience      string `db:"audience"`      // of its access tokens; empty: the server's own
	SecondFactor  bool   `db:"second_factor"` // the sign-in took one
}

func (r sessionRow) session() Session {
	return Session{
		ID: r.ID, UserID: r.UserID,
		CreatedAt: time.UnixMicro(r.CreatedAt), RefreshedAt: time.UnixMicro(r.RefreshedAt),
		ExpiresAt: time.UnixMicro(r.IdleExpiresAt), IP: r.IP, UserAgent: r.UserAgent,
	}
}

// amr is how the user signed in, in the words of RFC 8176.
func (r sessionRow) amr() []string {
	if r.SecondFactor {
		return []string{caller.AMRPassword, caller.AMROneTime, caller.AMRMultiFactor}
	}
	return []string{caller.AMRPassword}
}

func insertSession(ctx context.Context, q database.Queries, r sessionRow) error {
	_, err := q.Exec(ctx, `INSERT INTO sessions (`+sessionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		r.ID, r.UserID, r.Generation, r.TokenHash, r.CreatedAt, r.RefreshedAt, r.IdleExpiresAt, r.ExpiresAt, r.IP, r.UserAgent, r.Network,
		r.Audience, number(r.SecondFactor))
	return wrap("insert session", err)
}

// endOldest leaves the user of a new session at most limit live ones, the new
// one among them, and returns the ids of those it ended.
func endOldest(ctx context.Context, q database.Queries, r sessionRow, limit int) ([]string, error) {
	var ids []string
	err := q.Select(ctx, &ids, `UPDATE sessions SET revoked_at = $3, revoked_reason = $4
		WHERE revoked_at IS NULL AND id IN (
			SELECT id FROM sessions WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL AND idle_expires_at > $3
			ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET $5)
		RETURNING id`, r.UserID, r.ID, r.CreatedAt, endedByNewer, limit-1)
	return ids, wrap("end the oldest sessions", err)
}

// rotation is one refresh. Times are Unix microseconds.
type rotation struct {
	old, next     []byte // hashes of the tokens
	now           int64
	end           int64 // the session must not end before it
	idle          int64 // the next idle end
	ip, userAgent string
	network       string
}

// rotateSession replaces the newest token of a live session of an enabled
// user; ErrNoRows when the token is not that. Of several calls with the same
// token one finds it.
func rotateSession(ctx context.Context, q database.Queries, r rotation) (sessionRow, error) {
	var row sessionRow
	err := q.Get(ctx, &row, `UPDATE sessions SET
			generation = generation + 1, token_hash = $2, refreshed_at = $3,
			idle_expires_at = CASE WHEN expires_at < $4 THEN expires_at ELSE $4 END,
			ip = $5, user_agent = $6, network = $8
		WHERE token_hash = $1 AND revoked_at IS NULL AND idle_expires_at > $3 AND expires_at > $7
			AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.disabled_at IS NULL)
		RETURNING `+sessionColumns, r.old, r.next, r.now, r.idle, r.ip, r.userAgent, r.end, r.network)
	return row, wrap("rotate session", err)
}

// neverUsed is the generation of spent tokens that were replaced before they
// were used. No session's generation follows it, so that such a token is never
// taken for the one that was spent last.
const neverUsed = -1

// lockSuccessor holds, until the commit, the session whose newest token a token
// was traded for after since; ErrNoRows when it was not, or when the newest
// token is of a later refresh.
func lockSuccessor(ctx context.Context, q database.Queries, spent []byte, since int64) (sessionRow, error) {
	var row sessionRow
	err := q.Get(ctx, &row, `UPDATE sessions SET generation = generation
		WHERE id = (SELECT session_id FROM spent_tokens WHERE hash = $1 AND spent_at > $2)
			AND generation = (SELECT generation + 1 FROM spent_tokens WHERE hash = $1)
		RETURNING `+sessionColumns, spent, since)
	return row, wrap("look for the token's successor", err)
}

// replaceToken replaces the newest token of a live session of an enabled user
// in its own generation; ErrNoRows when the session is not that, or not as it
// was read.
func replaceToken(ctx context.Context, q database.Queries, was sessionRow, r rotation) (sessionRow, error) {
	var row sessionRow
	err := q.Get(ctx, &row, `UPDATE sessions SET
			token_hash = $2, refreshed_at = $3,
			idle_expires_at = CASE WHEN expires_at < $4 THEN expires_at ELSE $4 END,
			ip = $5, user_agent = $6, network = $10
		WHERE token_hash = $1 AND id = $8 AND generation = $9
			AND revoked_at IS NULL AND idle_expires_at > $3 AND expires_at > $7
			AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.disabled_at IS NULL)
		RETURNING `+sessionColumns, r.old, r.next, r.now, r.idle, r.ip, r.userAgent, r.end, was.ID, was.Generation, r.network)
	return row, wrap("replace the session's token", err)
}

func insertSpent(ctx context.Context, q database.Queries, hash []byte, sessionID string, generation, now int64) error {
	_, err := q.Exec(ctx, `INSERT INTO spent_tokens (hash, session_id, generation, spent_at) VALUES ($1, $2, $3, $4)`,
		hash, sessionID, generation, now)
	return wrap("insert spent token", err)
}

// spentIn returns the session that a token was spent in; ErrNoRows when it was
// not spent.
func spentIn(ctx context.Context, q database.Queries, hash []byte) (string, error) {
	var id string
	err := q.Get(ctx, &id, `SELECT session_id FROM spent_tokens WHERE hash = $1`, hash)
	return id, wrap("look for a spent token", err)
}

// foundToken is the session that a refresh token is or was of.
type foundToken struct {
	ID            string `db:"id"`
	UserID        string `db:"user_id"`
	IdleExpiresAt int64  `db:"idle_expires_at"`
	RevokedAt     *int64 `db:"revoked_at"`
	Spent         bool   `db:"spent"`
}

// findToken looks for a refresh token; ErrNoRows when it is of no session.
func findToken(ctx context.Context, q database.Queries, hash []byte) (foundToken, error) {
	var found foundToken
	err := q.Get(ctx, &found, `SELECT id, user_id, idle_expires_at, revoked_at, 1 = 0 AS spent FROM sessions WHERE token_hash = $1
		UNION ALL SELECT s.id, s.user_id, s.idle_expires_at, s.revoked_at, 1 = 1 AS spent
		FROM spent_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.hash = $1`, hash)
	return found, wrap("look for a token's session", err)
}

// isEnded says whether a session was ended, or is not there any more.
func isEnded(ctx context.Context, q database.Queries, id string) (bool, error) {
	var live int
	err := q.Get(ctx, &live, `SELECT COUNT(*) FROM sessions WHERE id = $1 AND revoked_at IS NULL`, id)
	return live == 0, wrap("look for a session", err)
}

// sessionByToken reads the live session whose newest token this is and that
// does not end before a time; ErrNoRows when there is none.
func sessionByToken(ctx context.Context, q database.Queries, hash []byte, now, end int64) (sessionRow, error) {
	var row sessionRow
	err := q.Get(ctx, &row, `SELECT `+sessionColumns+` FROM sessions
		WHERE token_hash = $1 AND revoked_at IS NULL AND idle_expires_at > $2 AND expires_at > $3`, hash, now, end)
	return row, wrap("look for a token's session", err)
}

// endSession ends a session and says whose it is and whether it was this call
// that ended it.
func endSession(ctx context.Context, q database.Queries, id, reason string, now int64) (owner string, ended bool, err error) {
	n, err := q.Exec(ctx, `UPDATE sessions SET revoked_at = $2, revoked_reason = $3
		WHERE id = $1 AND revoked_at IS NULL`, id, now, reason)
	if err != nil {
		return "", false, wrap("end session", err)
	}
	var owners []string
	if err := q.Select(ctx, &owners, `SELECT user_id FROM sessions WHERE id = $1`, id); err != nil {
		return "", false, wrap("read the session's user", err)
	}
	if len(owners) == 1 {
		owner = owners[0]
	}
	return owner, n == 1, nil
}

// endSessionOf ends a session if it is this user's and not ended yet, and says
// whether it did.
func endSessionOf(ctx context.Context, q database.Queries, userID, id, reason string, now int64) (bool, error) {
	n, err := q.Exec(ctx, `UPDATE sessions SET revoked_at = $3, revoked_reason = $4
		WHERE id = $2 AND user_id = $1 AND revoked_at IS NULL`, userID, id, now, reason)
	return n == 1, wrap("end session", err)
}

// sessionEnded returns ErrNoRows when there is no such session.
func sessionEnded(ctx context.Context, q database.Queries, id string) (bool, error) {
	var at *int64
	err := q.Get(ctx, &at, `SELECT revoked_at FROM sessions WHERE id = $1`, id)
	return at != nil, wrap("look whether a session has ended", err)
}

func sessionExists(ctx context.Context, q database.Queries, userID, id string) (bool, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM sessions WHERE id = $1 AND user_id = $2`, id, userID)
	return n == 1, wrap("look for a session", err)
}

// endedSession is a session that endSessions ended: it had lived until then if
// its idle end is still to come.
type endedSession struct {
	ID            string `db:"id"`
	IdleExpiresAt int64  `db:"idle_expires_at"`
}

// endSessions revokes all sessions of a user but the one to keep, those too
// whose time is over: an instance whose clock is late might still take them for
// live.
func endSessions(ctx context.Context, q database.Queries, userID, keep, reason string, now int64) ([]endedSession, error) {
	var rows []endedSession
	err := q.Select(ctx, &rows, `UPDATE sessions SET revoked_at = $2, revoked_reason = $3
		WHERE user_id = $1 AND id <> $4 AND revoked_at IS NULL RETURNING id, idle_expires_at`, userID, now, reason, keep)
	return rows, wrap("end sessions", err)
}

// listSessions returns at most limit live sessions before an id, newest first;
// an empty id begins the list.
func listSessions(ctx context.Context, q database.Queries, userID, before string, now int64, limit int) ([]sessionRow, error) {
	var rows []sessionRow
	err := q.Select(ctx, &rows, `SELECT `+sessionColumns+` FROM sessions
		WHERE user_id = $1 AND ($2 = '' OR id < $2) AND revoked_at IS NULL AND idle_expires_at > $3
		ORDER BY id DESC LIMIT $4`, userID, before, now, limit)
	return rows, wrap("list sessions", err)
}

// signedInFrom says whether the user of the name has a session whose last
// sign-in or refresh came from the network, or had one that is not deleted yet.
func signedInFrom(ctx context.Context, q database.Queries, username, network string) (bool, error) {
	var n int
	err := q.Get(ctx, &n, `SELECT COUNT(*) FROM (SELECT id FROM sessions
		WHERE user_id = (SELECT id FROM users WHERE username = $1) AND network = $2 LIMIT 1) AS one`, username, network)
	return n == 1, wrap("look for the address among the user's sessions", err)
}

// revokedSession is one that was ended before its time.
type revokedSession struct {
	ID        string `db:"id"`
	RevokedAt int64  `db:"revoked_at"`
}

func endedSince(ctx context.Context, q database.Queries, since int64) ([]revokedSession, error) {
	var rows []revokedSession
	err := q.Select(ctx, &rows, `SELECT id, revoked_at FROM sessions WHERE revoked_at > $1`, since)
	return rows, wrap("read the ended sessions", err)
}

// pruneSessions deletes sessions that ended before a time, a part at a time so
// that nobody waits long.
func pruneSessions(ctx context.Context, q database.Queries, before int64) error {
	const part = 500
	for {
		n, err := q.Exec(ctx, `DELETE FROM sessions WHERE id IN (
			SELECT id FROM sessions WHERE idle_expires_at < $1 OR revoked_at < $1 LIMIT $2)`, before, part)
		if err != nil || n < part {
			return wrap("delete old sessions", err)
		}
	}
}
