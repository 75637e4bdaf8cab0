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
	Audience      string `db:"audience"`      // of its access tokens; empty: the server's own
	SecondFactor  bool   `db:"second_factor"` // the sign-in took one
	client
}

// client is where a session's last sign-in or refresh came from.
type client struct {
	IP        string `db:"ip"`
	UserAgent string `db:"user_agent"`
	Network   string `db:"network"` // what limits count the address under
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

// listSessions returns at most limit live sessions before an id, newest first;
// an empty id begins the list.
func listSessions(ctx context.Context, q database.Queries, userID, before string, now int64, limit int) (rows []sessionRow, err error) {
	err = q.Select(ctx, &rows, `SELECT `+sessionColumns+` FROM sessions
		WHERE user_id = $1 AND ($2 = '' OR id < $2) AND revoked_at IS NULL AND idle_expires_at > $3
		ORDER BY id DESC LIMIT $4`, userID, before, now, limit)
	return rows, err
}

// getSessionByToken returns the live session whose newest token this is and
// that does not end before a time.
func getSessionByToken(ctx context.Context, q database.Queries, hash []byte, now, end int64) (row sessionRow, err error) {
	err = q.Get(ctx, &row, `SELECT `+sessionColumns+` FROM sessions
		WHERE token_hash = $1 AND revoked_at IS NULL AND idle_expires_at > $2 AND expires_at > $3`, hash, now, end)
	return row, err
}

// tokenSession is the session that a refresh token is or was of.
type tokenSession struct {
	ID            string `db:"id"`
	UserID        string `db:"user_id"`
	IdleExpiresAt int64  `db:"idle_expires_at"`
	RevokedAt     *int64 `db:"revoked_at"`
	Spent         bool   `db:"spent"`
}

// getTokenSession also finds tokens that were spent.
func getTokenSession(ctx context.Context, q database.Queries, hash []byte) (found tokenSession, err error) {
	err = q.Get(ctx, &found, `SELECT id, user_id, idle_expires_at, revoked_at, 1 = 0 AS spent FROM sessions WHERE token_hash = $1
		UNION ALL SELECT s.id, s.user_id, s.idle_expires_at, s.revoked_at, 1 = 1 AS spent
		FROM spent_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.hash = $1`, hash)
	return found, err
}

// countSessions counts a user's sessions with an id, ended ones too: one or
// none.
func countSessions(ctx context.Context, q database.Queries, userID, id string) (n int, err error) {
	err = q.Get(ctx, &n, `SELECT COUNT(*) FROM sessions WHERE id = $1 AND user_id = $2`, id, userID)
	return n, err
}

// countUnrevoked is 0 when a session was revoked, or does not exist any more.
func countUnrevoked(ctx context.Context, q database.Queries, id string) (n int, err error) {
	err = q.Get(ctx, &n, `SELECT COUNT(*) FROM sessions WHERE id = $1 AND revoked_at IS NULL`, id)
	return n, err
}

// countSessionsFrom is 1 when the user of a name has a session whose last
// sign-in or refresh came from the network, or had one that is not deleted yet.
func countSessionsFrom(ctx context.Context, q database.Queries, username, network string) (n int, err error) {
	err = q.Get(ctx, &n, `SELECT COUNT(*) FROM (SELECT id FROM sessions
		WHERE user_id = (SELECT id FROM users WHERE username = $1) AND network = $2 LIMIT 1) AS one`, username, network)
	return n, err
}

func insertSession(ctx context.Context, q database.Queries, r sessionRow) error {
	_, err := q.Exec(ctx, `INSERT INTO sessions (`+sessionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		r.ID, r.UserID, r.Generation, r.TokenHash, r.CreatedAt, r.RefreshedAt, r.IdleExpiresAt, r.ExpiresAt, r.IP, r.UserAgent, r.Network,
		r.Audience, boolToInt(r.SecondFactor))
	return err
}

// rotation replaces one refresh token by the next. Times are Unix microseconds.
type rotation struct {
	old, next  []byte // hashes of the tokens
	generation int64  // how many generations the next token is after the old one
	now        int64
	end        int64 // the session must not end before it
	idle       int64 // the next idle end
	client
}

// updateToken replaces the newest token of a live session of an enabled user;
// ErrNoRows when the token is not that. Of several calls with the same token
// one finds it.
func updateToken(ctx context.Context, q database.Queries, r rotation) (row sessionRow, err error) {
	err = q.Get(ctx, &row, `UPDATE sessions SET
			generation = generation + $9, token_hash = $2, refreshed_at = $3,
			idle_expires_at = CASE WHEN expires_at < $4 THEN expires_at ELSE $4 END,
			ip = $5, user_agent = $6, network = $8
		WHERE token_hash = $1 AND revoked_at IS NULL AND idle_expires_at > $3 AND expires_at > $7
			AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND users.disabled_at IS NULL)
		RETURNING `+sessionColumns, r.old, r.next, r.now, r.idle, r.IP, r.UserAgent, r.end, r.Network, r.generation)
	return row, err
}

// neverUsed is the generation of spent tokens that were replaced before they
// were used. No session's generation follows it, so that such a token is never
// taken for the one that was spent last.
const neverUsed = -1

// lockSuccessor holds, until the commit, the session whose newest token a token
// was traded for after since, and returns the newest token's hash; ErrNoRows
// when it was not, or when the newest token is of a later refresh.
func lockSuccessor(ctx context.Context, q database.Queries, spent []byte, since int64) (hash []byte, err error) {
	err = q.Get(ctx, &hash, `UPDATE sessions SET generation = generation
		WHERE id = (SELECT session_id FROM spent_tokens WHERE hash = $1 AND spent_at > $2)
			AND generation = (SELECT generation + 1 FROM spent_tokens WHERE hash = $1)
		RETURNING token_hash`, spent, since)
	return hash, err
}

func insertSpent(ctx context.Context, q database.Queries, hash []byte, sessionID string, generation, now int64) error {
	_, err := q.Exec(ctx, `INSERT INTO spent_tokens (hash, session_id, generation, spent_at) VALUES ($1, $2, $3, $4)`,
		hash, sessionID, generation, now)
	return err
}

// updateRevoked revokes a session and returns its user; ErrNoRows when it was
// revoked before, does not exist, or is not of this user. An empty userID
// stands for any.
func updateRevoked(ctx context.Context, q database.Queries, userID, id, reason string, now int64) (owner string, err error) {
	err = q.Get(ctx, &owner, `UPDATE sessions SET revoked_at = $3, revoked_reason = $4
		WHERE id = $2 AND ($1 = '' OR user_id = $1) AND revoked_at IS NULL RETURNING user_id`, userID, id, now, reason)
	return owner, err
}

// revokedSession is one that was revoked. Until then it was live if its idle
// end is still to come.
type revokedSession struct {
	ID            string `db:"id"`
	IdleExpiresAt int64  `db:"idle_expires_at"`
	RevokedAt     int64  `db:"revoked_at"`
}

// updateOthersRevoked revokes all sessions of a user but the one to keep, those
// too whose time is over: an instance whose clock is late might still take them
// for live.
func updateOthersRevoked(ctx context.Context, q database.Queries, userID, keep, reason string, now int64) (rows []revokedSession, err error) {
	err = q.Select(ctx, &rows, `UPDATE sessions SET revoked_at = $2, revoked_reason = $3
		WHERE user_id = $1 AND id <> $4 AND revoked_at IS NULL RETURNING id, idle_expires_at, revoked_at`, userID, now, reason, keep)
	return rows, err
}

// updateOldestRevoked leaves the user of a new session at most limit live ones,
// the new one among them, and returns the ids of those it revoked.
func updateOldestRevoked(ctx context.Context, q database.Queries, r sessionRow, limit int) (ids []string, err error) {
	err = q.Select(ctx, &ids, `UPDATE sessions SET revoked_at = $3, revoked_reason = $4
		WHERE revoked_at IS NULL AND id IN (
			SELECT id FROM sessions WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL AND idle_expires_at > $3
			ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET $5)
		RETURNING id`, r.UserID, r.ID, r.CreatedAt, revokedByNewer, limit-1)
	return ids, err
}

func listRevokedSessions(ctx context.Context, q database.Queries, since int64) (rows []revokedSession, err error) {
	err = q.Select(ctx, &rows, `SELECT id, idle_expires_at, revoked_at FROM sessions WHERE revoked_at > $1`, since)
	return rows, err
}

// deleteOldSessions deletes sessions that ended before a time, a part at a time
// so that no other caller waits long.
func deleteOldSessions(ctx context.Context, q database.Queries, before int64) error {
	const part = 500
	for {
		n, err := q.Exec(ctx, `DELETE FROM sessions WHERE id IN (
			SELECT id FROM sessions WHERE idle_expires_at < $1 OR revoked_at < $1 LIMIT $2)`, before, part)
		if err != nil || n < part {
			return err
		}
	}
}
