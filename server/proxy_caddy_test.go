package main_test

import "testing"

var caddy = proxy{"TOLLGATE_TEST_CADDY", "caddy", func(t *testing.T, dir string, at addresses) (env, args []string) {
	deployed(t, dir, "caddy/Caddyfile")
	return []string{
		"CADDY_ADMIN=off", "ORDERS_SITE=http://:" + port(at.proxy), "ORDERS_ADDRESS=" + at.service,
		"TOLLGATE_ADDRESS=" + at.tollgate, "TOLLGATE_KEY=" + at.key,
	}, []string{"run", "--config", "Caddyfile"}
}}

// TestCaddy judges deploy/caddy.
func TestCaddy(t *testing.T) {
	t.Parallel()
	judge(t, caddy)
}
