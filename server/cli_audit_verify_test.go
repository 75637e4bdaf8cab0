package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestCLIAuditVerify verifies a server's log over the API and in the database, then
// changes it behind the server's back.
func TestCLIAuditVerify(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	saved := filepath.Join(sh.home, "saved")
	here := &shell{sh.home, nil} // names no server
	file := filepath.Join(s.dir, "tollgate.db")
	onDatabase := []string{"audit", "verify", "--database-url", "sqlite:" + file}

	recorded := s.Post(t, "/v1/audit/events", object{"action": "order.cancel", "outcome": "OUTCOME_SUCCESS", "resource": "orders/7"})
	id := recorded.Str("event", "id")
	apitest.Eventually(t, "the event is in the tree", func() bool {
		code, _, _ := sh.try(t, "", "audit", "prove", id, "--out", filepath.Join(sh.home, "event.tlog-proof"))
		return code == 0
	})
	contains(t, sh.do(t, "audit", "verify", "--save", saved), "whole", "localhost:8000/audit", "nothing says that the newest events were not cut off")
	contains(t, sh.do(t, "audit", "verify", "--since", saved), "whole", "continues the saved checkpoint")
	contains(t, here.do(t, append(onDatabase, "--since", saved)...), "whole", "continues the saved checkpoint")
	contains(t, sh.do(t, "audit", "checkpoint"), "localhost:8000/audit\n", "\n\n— localhost:8000/audit ")

	keys := sh.asJSON(t, "audit", "keys")["keys"].([]any)
	key := keys[0].(object)["key"].(string)
	contains(t, sh.do(t, "audit", "verify", "--since", saved, "--key", key), "whole")
	contains(t, here.do(t, "audit", "check", filepath.Join(sh.home, "event.tlog-proof"), "--key", key), "order.cancel", "orders/7")
	here.fails(t, 1, "not proven: none of these keys signed it", "audit", "check", filepath.Join(sh.home, "event.tlog-proof"), "--key", "localhost:8000/audit+9a2b15af+ARwM7llRdhTjOD9Xw0QNBWJ9+9bJSmjBxNLairhxgJbD")
	sh.fails(t, 1, "is not a log's key", "audit", "check", filepath.Join(sh.home, "event.tlog-proof"), "--key", "other")
	proof, err := os.ReadFile(filepath.Join(sh.home, "event.tlog-proof"))
	backendtest.Must(t, err)
	forged := filepath.Join(sh.home, "forged.tlog-proof")
	backendtest.Must(t, os.WriteFile(forged, []byte(strings.Replace(string(proof), "\nindex ", "\nindex 1", 1)), 0o600))
	here.fails(t, 1, "not proven", "audit", "check", forged, "--key", key)
	here.fails(t, 2, "there is no file", "audit", "verify", "--database-url", "sqlite:"+file+"x")
	sh.fails(t, 2, "no Tollgate answers", "audit", "verify", "--url", "http://127.0.0.1:1", "--api-key", "tg_none")

	db, err := database.Open("sqlite:" + file)
	backendtest.Must(t, err)
	defer db.Close()
	changed, err := db.Exec(t.Context(), `UPDATE audit_events SET resource = 'orders/8' WHERE id = $1`, id)
	backendtest.Must(t, err)
	backendtest.Equal(t, changed, 1, "events that were edited")
	for name, verify := range map[string]func() (int, string, string){
		"over the API":    func() (int, string, string) { return sh.try(t, "", "audit", "verify", "--since", saved) },
		"in the database": func() (int, string, string) { return here.try(t, "", append(onDatabase, "--since", saved)...) },
	} {
		code, stdout, stderr := verify()
		if code != 1 || !strings.Contains(stdout, id) || !strings.Contains(stdout, "edited") || !strings.Contains(stderr, "not the one that was signed") {
			t.Errorf("%s: exit code %d: %s%s", name, code, stdout, stderr)
		}
	}
	_, err = db.Exec(t.Context(), `UPDATE audit_events SET resource = 'orders/7' WHERE id = $1`, id)
	backendtest.Must(t, err)
	contains(t, here.do(t, append(onDatabase, "--since", saved)...), "whole")
	sh.fails(t, 2, "--help", "audit", "verify", "--since-file", saved)
	if code, _, stderr := here.try(t, "", append(onDatabase, "--since-file", saved)...); code != 2 || !strings.Contains(stderr, "--since-file") || !strings.Contains(stderr, "tollgate audit verify --help") {
		t.Errorf("a misspelled flag: exit code %d: %s", code, stderr)
	}
	help := here.do(t, "audit", "verify", "--help")
	contains(t, help, "--since", "--database-url", "Exit status 0: whole")
}
