package main_test

import "testing"

var haproxy = proxy{"TOLLGATE_TEST_HAPROXY", "haproxy", func(t *testing.T, dir string, at addresses) (env, args []string) {
	deployed(t, dir, "haproxy/tollgate.lua", "abns@tollgate-ask", "abns@tollgate-ask-"+port(at.proxy))
	deployed(t, dir, "haproxy/haproxy.cfg", "abns@tollgate-ask", "abns@tollgate-ask-"+port(at.proxy),
		"127.0.0.1:8000", at.tollgate, "127.0.0.1:8080", at.service, "bind :80 ", "bind "+at.proxy+" ",
		"    #   http-request lua.tollgate", "    http-request lua.tollgate")
	return []string{"TOLLGATE_KEY=" + at.key}, []string{"-db", "-f", "haproxy.cfg"}
}}

// TestHAProxy judges deploy/haproxy.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	judge(t, haproxy)
}
