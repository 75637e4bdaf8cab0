package app

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"golang.org/x/mod/sumdb/tlog"
)

// inTree waits until an event is under a signed checkpoint and returns its proof.
func (i *instance) inTree(t *testing.T, id string) *auditlog.Proof {
	t.Helper()
	var proof *auditlog.Proof
	apitest.Eventually(t, "the event's proof", func() bool {
		a := i.call(t, "GET", "/v1/audit/tlog/proof/"+id, i.admin, nil)
		if a.Reason() == "NOT_IN_TREE_YET" || a.Reason() == "CHECKPOINT_NOT_FOUND" {
			return false
		}
		var err error
		proof, err = auditlog.ParseProof(a.Want(t, 200).Raw)
		backendtest.Must(t, err)
		return true
	})
	return proof
}

func (i *instance) record(t *testing.T, action string) string {
	t.Helper()
	a := i.call(t, "POST", "/v1/audit/events", i.admin, map[string]any{"action": action, "outcome": "OUTCOME_SUCCESS"}).Want(t, 200)
	return a.Str("event", "id")
}

// TestAuditTreeOverHTTP checks an event by what a client of transparency logs is given.
func TestAuditTreeOverHTTP(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		first := i.inTree(t, i.record(t, "order.first"))
		before, err := auditlog.ParseCheckpoint(string(first.Checkpoint))
		backendtest.Must(t, err)
		id := i.record(t, "order.second")
		proof := i.inTree(t, id)

		listed := i.call(t, "GET", "/v1/audit/keys", i.admin, nil).Want(t, 200).List("keys")
		keys, err := auditlog.ParseKeys(fmt.Sprint(listed[0]["key"]))
		backendtest.Must(t, err)
		leaf, checkpoint, err := proof.Verify(keys)
		backendtest.Must(t, err)
		backendtest.Equal(t, leaf.ID, id, "the proven event")
		backendtest.Equal(t, leaf.Action, "order.second", "its action")
		backendtest.Equal(t, checkpoint.Origin, "tollgate.test/audit", "origin")

		signed := i.call(t, "GET", "/v1/audit/tlog/checkpoint", i.admin, nil).Want(t, 200)
		newest, err := auditlog.OpenCheckpoint(signed.Raw, keys)
		backendtest.Must(t, err)

		// The tree once more, from its tiles, and what is in them.
		hashes := auditlog.Hashes(func(tile auditlog.Tile) ([]byte, error) {
			return i.call(t, "GET", "/v1/audit/tlog/"+tile.Path(), i.admin, nil).Want(t, 200).Raw, nil
		})
		root, err := tlog.TreeHash(newest.Size, hashes)
		backendtest.Must(t, err)
		backendtest.Equal(t, root, newest.Root, "root by the tiles")
		bundle := i.call(t, "GET", "/v1/audit/tlog/"+auditlog.Tile{Entries: true, Width: int(newest.Size)}.Path(), i.admin, nil).Want(t, 200)
		entries, err := auditlog.SplitEntries(bundle.Raw)
		backendtest.Must(t, err)
		backendtest.Equal(t, len(entries), int(newest.Size), "number of entries")
		if !bytes.Equal(entries[proof.Index], proof.Leaf) {
			t.Errorf("entry %d is %s", proof.Index, entries[proof.Index])
		}

		// Nothing was changed since the first checkpoint.
		a := i.call(t, "GET", "/v1/audit/consistency?from="+fmt.Sprintf("%d&to=%d", before.Size, newest.Size), i.admin, nil).Want(t, 200)
		var consistency tlog.TreeProof
		list, _ := a.Body["hashes"].([]any)
		for _, h := range list {
			raw, err := base64.StdEncoding.DecodeString(h.(string))
			backendtest.Must(t, err)
			consistency = append(consistency, tlog.Hash(raw))
		}
		backendtest.Must(t, tlog.CheckTree(consistency, newest.Size, newest.Root, before.Size, before.Root))

		_, without := i.newUser(t, "without", "something:else")
		for path, status := range map[string]int{
			"/v1/audit/tlog/tile/0/001": 404, "/v1/audit/tlog/tile/0/000.p/255": 404, "/v1/audit/tlog/tile/9/000": 404, "/v1/audit/tlog/tile/0/0": 400,
			"/v1/audit/tlog/tile/entries/x999/x999/x999/x999/999": 404, "/v1/audit/tlog/": 400, "/v1/audit/tlog/checkpoint?a=b": 400,
			"/v1/audit/tlog/proof/" + strings.Repeat("x", 100): 404, "/v1/audit/tlog/proof/": 400, "/v1/audit/events/none/proof": 404,
			"/v1/audit/consistency?from=0": 400, "/v1/audit/consistency?from=2&to=1": 400, "/v1/audit/consistency?from=1&to=999999": 400,
			"/v1/audit/checkpoints?above=-1": 400, "/v1/audit/checkpoint": 200, "/v1/audit/checkpoints": 200, "/v1/audit/events/" + id + "/proof": 200,
		} {
			if a := i.call(t, "GET", path, i.admin, nil); a.Status != status {
				t.Errorf("%s: %d %s", path, a.Status, a.Raw)
			}
			if a := i.call(t, "GET", path, without, nil); a.Status != 403 && status != 400 {
				t.Errorf("%s without the permission: %d", path, a.Status)
			}
			if a := i.call(t, "GET", path, "", nil); a.Status != 401 && status != 400 {
				t.Errorf("%s as nobody: %d", path, a.Status)
			}
		}
		i.call(t, "POST", "/v1/audit/tlog/checkpoint", i.admin, "{}").Want(t, 405)
	})
}

// TestVerifyOwnLog checks that what all of an instance's work leaves in the log verifies.
func TestVerifyOwnLog(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	i.newUser(t, "anna", "orders:read")
	i.inTree(t, i.record(t, "order.last"))
	listed := i.call(t, "GET", "/v1/audit/keys", i.admin, nil).Want(t, 200).List("keys")
	keys, err := auditlog.ParseKeys(fmt.Sprint(listed[0]["key"]))
	backendtest.Must(t, err)
	report, err := auditlog.Verification{Source: i.audit.Source(), Keys: keys}.Verify(context.Background())
	backendtest.Must(t, err)
	if len(report.Findings) != 0 || report.Checkpoint.Size < 3 {
		t.Errorf("%+v", report)
	}
}
