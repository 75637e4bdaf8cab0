package main_test

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestChaosPgBouncer checks that everything works through a pooler in
// transaction mode, where consecutive statements of one client use different
// connections. Without PgBouncer the full run fails and a short run does
// nothing.
func TestChaosPgBouncer(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath(cmp.Or(os.Getenv("TOLLGATE_TEST_PGBOUNCER"), "pgbouncer"))
	if err != nil {
		report := t.Logf
		if chaos {
			report = t.Errorf
		}
		report("there is no pgbouncer on PATH; install it (Debian: apt-get install pgbouncer) or name it in TOLLGATE_TEST_PGBOUNCER")
		return
	}
	b := newBackends(t)
	u, err := url.Parse(pgbouncer(t, program, b.postgres))
	backendtest.Must(t, err)
	apitest.Eventually(t, "PgBouncer listens", func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	c := startCluster(t, 2, settings(u.String(), b.redis))
	wrong := 0
	rounds := often(10, 200)
	shared(8, rounds, func(i int) {
		id := c.on(i).Insist(t, "POST", "/v1/users", object{"username": fmt.Sprintf("user-%d", i), "password": "a password of theirs"}).Str("user", "id")
		role := fmt.Sprintf("role-%d", i)
		c.on(i+1).Insist(t, "POST", "/v1/roles", object{"name": role, "permissions": []string{"orders:read"}})
		revision := c.on(i).Insist(t, "PUT", "/v1/roles/"+role+"/members/"+id, object{}).Str("revision")
		if c.on(i+1).Insist(t, "POST", "/v1/authorize", object{"userId": id, "permission": "orders:read", "minRevision": revision}).At("allowed") != true {
			wrong++
		}
		login := c.on(i).As("").Insist(t, "POST", "/v1/auth/login", object{"username": fmt.Sprintf("user-%d", i), "password": "a password of theirs"})
		next := c.on(i+1).As("").Insist(t, "POST", "/v1/auth/refresh", object{"refreshToken": login.Str("refreshToken")})
		c.on(i).As(next.Str("accessToken")).Insist(t, "POST", "/v1/auth/logout", object{})
	})
	late := revocations(t, c, often(10, 100), 4)
	made := len(c.on(0).Events(t, "action=user.create&outcome=OUTCOME_SUCCESS"))
	if status := c.on(0).Call(t, "GET", "/readyz", nil).Status; status != http.StatusOK {
		t.Errorf("readyz: %d", status)
	}
	promise(t, "behind PgBouncer in transaction mode everything works", wrong == 0 && made == rounds+1,
		"%d rounds of make, grant, decide, sign in, refresh, sign out at 2 instances: wrong %d, events %d; revocations: %s", rounds, wrong, made, spread(late))
}

// pgbouncer starts a PgBouncer in front of a PostgreSQL and returns its URL.
func pgbouncer(t *testing.T, program, postgres string) string {
	t.Helper()
	u, err := url.Parse(postgres)
	backendtest.Must(t, err)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	port := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	dir, err := os.MkdirTemp("/tmp", "tollgate-pgbouncer-") // another account may have to get there
	backendtest.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	password, _ := u.User.Password()
	config := fmt.Sprintf(`[databases]
tollgate = host=%s port=%s dbname=%s user=%s password=%s connect_query='SET search_path TO %s'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
max_client_conn = 500
`, u.Hostname(), cmp.Or(u.Port(), "5432"), u.Path[1:], u.User.Username(), password, u.Query().Get("search_path"), port)
	file := filepath.Join(dir, "pgbouncer.ini")
	backendtest.Must(t, os.WriteFile(file, []byte(config), 0o600))
	cmd := exec.Command(program, file)
	log := newOutput()
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	if os.Geteuid() == 0 { // it refuses to be root
		nobody, err := user.Lookup("nobody")
		backendtest.Must(t, err)
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		for _, path := range []string{dir, file} {
			backendtest.Must(t, os.Chown(path, uid, gid))
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	backendtest.Must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", log)
		}
	})
	through := url.URL{Scheme: "postgres", User: u.User, Host: "127.0.0.1:" + port, Path: "/tollgate", RawQuery: "sslmode=disable"}
	return through.String()
}
