package tollgate_test

import (
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

func TestReserve(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.SetLimit(sdktest.Limit{Name: "tokens", Calls: 100, RetryAfter: time.Second})
	c := f.client(t)
	made, err := c.Reserve(t.Context(), "tokens", "acme", 60)
	must(t, err)
	if made.Err() != nil || made.ID == "" || made.Status.Remaining != 40 {
		t.Errorf("reserved %+v", made)
	}
	refused, err := c.Reserve(t.Context(), "tokens", "acme", 60)
	must(t, err)
	if denied, ok := errors.AsType[*tollgate.DeniedError](refused.Err()); !ok || denied.Reason != tollgate.ReasonLimited || denied.RetryAfter != time.Second || refused.ID != "" {
		t.Errorf("refused %+v", refused)
	}
	status, err := c.Settle(t.Context(), made.ID, 15)
	must(t, err)
	if status.Remaining != 85 || status.Name != "tokens" {
		t.Errorf("settled %+v", status)
	}
	_, err = c.Settle(t.Context(), made.ID, 15)
	wantError(t, err, connect.CodeNotFound)
	_, err = c.Reserve(t.Context(), "none", "acme", 60)
	wantError(t, err, connect.CodeNotFound)
}
