package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

var nginx = proxy{"TOLLGATE_TEST_NGINX", "nginx", func(t *testing.T, dir string, at addresses) (env, args []string) {
	deployed(t, dir, "nginx/tollgate.conf", "127.0.0.1:8000", at.tollgate, "127.0.0.1:8080", at.service, "listen 80;", "listen "+at.proxy+";")
	deployed(t, dir, "nginx/tollgate-ask.conf")
	deployed(t, dir, "nginx/tollgate-protect.conf")
	key := fmt.Sprintf("proxy_set_header X-Tollgate-Key %q;\n", at.key)
	backendtest.Must(t, os.WriteFile(filepath.Join(dir, "tollgate-key.conf"), []byte(key), 0o600))
	const main = `
daemon off;
master_process off; # or its workers outlive a kill
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include tollgate.conf;
}
`
	file := filepath.Join(dir, "nginx.conf")
	backendtest.Must(t, os.WriteFile(file, []byte(main), 0o600))
	return nil, []string{"-e", "stderr", "-p", dir, "-c", file}
}}

// TestNginx judges deploy/nginx.
func TestNginx(t *testing.T) {
	t.Parallel()
	judge(t, nginx)
}
