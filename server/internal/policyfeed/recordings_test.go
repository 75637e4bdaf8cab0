package policyfeed

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/recordings"
)

// TestRecordings: a recording is told as a limit of which there are no leases, under a
// name that no limit has, in the snapshot and when it changes.
func TestRecordings(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		f := open(t, db)
		_, _, err := f.record.Create(f.system(), recordings.Recording{Name: "old", Permission: "orders:*", Sample: 1})
		backendtest.Must(t, err)
		messages, _ := f.watch(f.watcher(), false)
		backendtest.Equal(t, fmt.Sprint((<-messages).Limits), "[{recording:old orders:* global  false}]", "in the snapshot")
		_, revision, err := f.record.Create(f.system(), recordings.Recording{Name: "new", Permission: "bills:pay"})
		backendtest.Must(t, err)
		want := limits.Outline{Name: "recording:new", Permission: "bills:pay", Subject: limits.SubjectGlobal}
		if m := next(t, messages, revision); !slices.Equal(m.Limits, []limits.Outline{want}) || m.Everybody {
			t.Errorf("a new one: %+v", m)
		}
		_, revision, err = f.record.Update(f.system(), "old", recordings.Edit{Permission: new("docs:*")})
		backendtest.Must(t, err)
		backendtest.Equal(t, fmt.Sprint(next(t, messages, revision).Limits), "[{recording:old docs:* global  false}]", "a changed one")
		revision, err = f.record.Delete(f.system(), "old")
		backendtest.Must(t, err)
		if m := next(t, messages, revision); !slices.Equal(m.RemovedLimits, []string{"recording:old"}) || m.Everybody {
			t.Errorf("one that is gone: %+v", m)
		}
	})
}
