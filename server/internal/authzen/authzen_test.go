package authzen

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// What fails inside has a status of its own and no word of its cause.
func TestRefuse(t *testing.T) {
	t.Parallel()
	g, err := guard.New(guard.Options{Refused: func(string, error) {}})
	backendtest.Must(t, err)
	h := &Handler{Options: Options{Guard: g, Log: slog.New(slog.DiscardHandler)}}
	secret := errors.New("hunter2")
	for _, c := range []struct {
		err         error
		status      int
		name, value string // of a header
	}{
		{secret, 500, "Retry-After", ""},
		{fault.Down("the database", secret), 503, "Retry-After", "1"},
		{fault.New(fault.Limited, "LIMITED", "too many calls").After(1500 * time.Millisecond), 429, "Retry-After", "2"},
		{fault.New(fault.Unauthenticated, "CREDENTIAL_MISSING", "sign in first"), 401, "WWW-Authenticate", "Bearer"},
		{fault.New(fault.Denied, "PERMISSION_MISSING", "this needs a permission"), 403, "WWW-Authenticate", ""},
		{&statusError{405, "send a POST"}, 405, "WWW-Authenticate", ""},
	} {
		w := httptest.NewRecorder()
		h.refuse(w, httptest.NewRequest(http.MethodPost, evaluationPath, nil), c.err)
		var text string
		if err := json.Unmarshal(w.Body.Bytes(), &text); err != nil || w.Code != c.status || text == "" || strings.Contains(text, "hunter2") {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
		backendtest.Equal(t, w.Header().Get(c.name), c.value, "%d: %s", c.status, c.name)
	}
}
