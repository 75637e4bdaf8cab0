package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Hold keeps the events that its filter lets through, whatever their age.
type Hold struct {
	Name      string
	Filter    Filter // by actor, action, resource and time
	Reason    string
	CreatedBy string // a user id; SystemActor for the command line
	CreatedAt time.Time
}

type holdRow struct {
	Name      string `db:"name"`
	Actor     string `db:"actor"`
	Action    string `db:"action"`
	Resource  string `db:"resource"`
	After     *int64 `db:"after_time"`
	Before    *int64 `db:"before_time"`
	Reason    string `db:"reason"`
	CreatedBy string `db:"created_by"`
	CreatedAt int64  `db:"created_at"`
}

const holdColumns = `name, actor, action, resource, after_time, before_time, reason, created_by, created_at`

func (r holdRow) hold() (Hold, error) {
	return Hold{
		Name: r.Name, Reason: r.Reason, CreatedBy: r.CreatedBy, CreatedAt: time.UnixMicro(r.CreatedAt).UTC(),
		Filter: Filter{
			Actor: r.Actor, Action: r.Action, Resource: r.Resource,
			After: database.Time(r.After), Before: database.Time(r.Before),
		},
	}, nil
}

// holds are all there are.
type holds []Hold

// keep says whether the event is on hold.
func (h holds) keep(e *Event) bool {
	return slices.ContainsFunc(h, func(hold Hold) bool { return hold.Filter.match(e) })
}

func listHolds(ctx context.Context, q database.Queries) (holds, error) {
	return ListHolds(ctx, q, "", maxHolds)
}

// maxHolds is how many holds there may be: each is compared with each event that is old
// enough to go.
const maxHolds = 1000

// ErrTooManyHolds says that there is no place for another hold.
var ErrTooManyHolds = errors.New("there are too many holds")

// ListHolds reads up to n holds after a name, by name.
func ListHolds(ctx context.Context, q database.Queries, after string, n int) ([]Hold, error) {
	list, err := database.Select(ctx, q, holdRow.hold, `SELECT `+holdColumns+` FROM audit_holds WHERE name > $1 ORDER BY name LIMIT $2`, after, n)
	if err != nil {
		return nil, fmt.Errorf("read the audit log's holds: %w", err)
	}
	return list, nil
}

// LockPruning makes the rest of a transaction wait for those that delete events or change
// holds, and they for it: a hold counts from its commit on.
func LockPruning(ctx context.Context, q database.Queries) error {
	n, err := q.Exec(ctx, `UPDATE audit_pruners SET id = id WHERE id = 1`)
	if err == nil && n != 1 {
		err = errors.New("the table audit_pruners has lost its row")
	}
	if err != nil {
		return fmt.Errorf("wait for other deletions and holds: %w", err)
	}
	return nil
}

// CreateHold adds a hold; database.ErrExists when there is one of the name, and
// ErrTooManyHolds. The transaction has locked pruning.
func CreateHold(ctx context.Context, q database.Queries, h Hold) error {
	var n int
	if err := q.Get(ctx, &n, `SELECT COUNT(*) FROM audit_holds`); err != nil {
		return err
	}
	if n >= maxHolds {
		return ErrTooManyHolds
	}
	f := h.Filter
	_, err := q.Exec(ctx, `INSERT INTO audit_holds (`+holdColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		h.Name, f.Actor, f.Action, f.Resource, bound(f.After), bound(f.Before), h.Reason, h.CreatedBy, h.CreatedAt.UnixMicro())
	return err
}

// DeleteHold removes a hold and returns it as it was; ErrNoRows when there is none.
func DeleteHold(ctx context.Context, q database.Queries, name string) (Hold, error) {
	return database.Get(ctx, q, holdRow.hold, `DELETE FROM audit_holds WHERE name = $1 RETURNING `+holdColumns, name)
}
