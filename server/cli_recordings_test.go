package main_test

import "testing"

// TestCLIRecordings checks the commands about recordings, and that a change of a role
// asks first when it would take what is on record as used.
func TestCLIRecordings(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read", "orders:write"}})
	mia := s.NewUser(t, "mia", "a password of mia", "clerk")
	s.NewUser(t, "tom", "a password of tom", "clerk")

	contains(t, sh.do(t, "audit", "recordings", "create", "orders", "--permission", "orders:*", "--sample", "0.25%", "--description", "for audits"), "")
	contains(t, sh.do(t, "audit", "recordings", "list"), "orders", "orders:*", "0.25%", "for audits")
	for flag, want := range map[string]string{"1": "0.0001%", "100%": "100%", "12.5%": "12.5%", "7": "0.0007%", "0.0029%": "0.0029%"} {
		sh.do(t, "audit", "recordings", "edit", "orders", "--sample", flag)
		contains(t, sh.do(t, "audit", "recordings", "get", "orders"), want)
	}
	for _, wrong := range []string{"0", "-1", "101%", "1000001", "0.00001%", "1.5", "half", "%", "NaN", "Inf%"} {
		sh.fails(t, 1, "--sample", "audit", "recordings", "create", "more", "--permission", "a:b", "--sample="+wrong)
	}
	sh.fails(t, 1, "tollgate:user:read", "audit", "recordings", "create", "more", "--permission", "tollgate:user:read")
	sh.fails(t, 1, `no recording "gone"`, "audit", "recordings", "get", "gone")

	sh.do(t, "audit", "recordings", "edit", "orders", "--sample", "100%")
	for range 2 {
		s.Post(t, "/v1/authorize", object{"userId": mia, "permission": "orders:write"})
	}
	contains(t, sh.do(t, "audit", "list", "--action", "access.allowed"), "mia", "success")
	sh.fails(t, 1, "by which 2 users may less (mia, tom), and 1 user would be refused what is on record as allowed (mia)", "roles", "edit", "clerk", "--remove", "orders:write")

	sh.fails(t, 1, "record allowed calls of orders:* by orders no more", "audit", "recordings", "delete", "orders")
	sh.do(t, "audit", "recordings", "delete", "orders", "--yes")
	sh.fails(t, 1, `no recording "orders"`, "audit", "recordings", "delete", "orders", "--yes")

	tom := newShell(t, s.URL)
	tom.login(t, "tom", "a password of tom")
	tom.fails(t, 1, "tollgate:audit:read", "audit", "recordings", "list")
	tom.fails(t, 1, "tollgate:audit:configure", "audit", "recordings", "create", "more", "--permission", "a:b")
}
