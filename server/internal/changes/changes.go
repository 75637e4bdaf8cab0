// Package changes is the log of what changed and its tail: how a write reaches
// the caches of every instance, and how an answer can be as new as a write.
//
// A write commits three things in one transaction: the change itself, its
// audit event, and its rows in the log. Every instance follows the log and
// passes changes to its Followers, which keep caches. An instance that cannot
// read the log is unavailable and does not answer from a cache that may be stale.
package changes

import (
	"context"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Kind is what sort of thing changed.
type Kind string

// The kinds, with what their subject is.
const (
	User       Kind = "user"        // user id
	Session    Kind = "session"     // session id; the session has ended
	Token      Kind = "token"       // "jti" of an access token that was revoked by itself
	APIKey     Kind = "api_key"     // key id
	SigningKey Kind = "signing_key" // kid
	Role       Kind = "role"        // name
	Membership Kind = "membership"  // user id; empty: anybody's
	Limit      Kind = "limit"       // name
	Route      Kind = "route"       // name
	Resource   Kind = "resource"    // type, a slash, id
	Recording  Kind = "recording"   // name
)

// Change says that a thing is not what it was. It does not say how: followers
// read the truth again.
type Change struct {
	Kind     Kind
	Subject  string
	Revision int64 // at which it was written; 0 before it is
}

// Tx is a transaction that also collects its audit events and changes.
type Tx struct {
	*database.Tx
	events  []audit.Event
	changes []Change
}

// Record adds an audit event to the transaction.
func (tx *Tx) Record(e audit.Event) { tx.events = append(tx.events, e) }

// Changed adds a change to the transaction.
func (tx *Tx) Changed(kind Kind, subject string) {
	tx.changes = append(tx.changes, Change{Kind: kind, Subject: subject})
}

// Write runs fn in a transaction and commits its effects, its audit events and
// its changes together. When it returns, the change is in force on this
// instance, unless the database failed right after the commit; others follow
// within the bound. The revision is that of the write, or, when fn changed
// nothing, one that is already in force here.
//
// fn may run more than once: see database.DB.Write.
func (l *Log) Write(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) (revision int64, err error) {
	err = l.db.Write(ctx, func(ctx context.Context, plain *database.Tx) error {
		tx := &Tx{Tx: plain}
		revision = 0
		if err := fn(ctx, tx); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, l.clock, tx.events...); err != nil {
			return err
		}
		// Last, because from here to the commit no other transaction can write changes.
		revision, err = l.append(ctx, tx)
		return err
	})
	if err != nil {
		return 0, err
	}
	if l.onEvents != nil {
		l.onEvents()
	}
	if revision == 0 {
		return l.Revision(), nil
	}
	l.notify()
	if l.Revision() >= revision {
		return revision, nil
	}
	if err := l.Sync(ctx); err != nil {
		// The write is durable: after an error the caller would try it again. The
		// tail catches up when it can.
		l.log.WarnContext(ctx, "a committed change is not in force here yet", "revision", revision, "error", err)
	}
	return revision, nil
}

// append writes the transaction's changes at the next revision; 0 when there
// are none. The update holds the row's lock until the commit, so revisions
// commit in order.
func (l *Log) append(ctx context.Context, tx *Tx) (int64, error) {
	if len(tx.changes) == 0 {
		return 0, nil
	}
	var revision int64
	if err := tx.Get(ctx, &revision, `UPDATE change_head SET revision = revision + 1 WHERE id = 1 RETURNING revision`); err != nil {
		return 0, fmt.Errorf("take the next revision: %w", err)
	}
	now := l.clock.Micros()
	args := make([]any, 0, 5*len(tx.changes))
	for i, c := range tx.changes {
		args = append(args, revision, i, string(c.Kind), c.Subject, now)
	}
	if err := tx.Insert(ctx, "changes", "revision, position, kind, subject, at", args); err != nil {
		return 0, fmt.Errorf("append %d changes: %w", len(tx.changes), err)
	}
	return revision, nil
}
