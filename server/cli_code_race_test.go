package main_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"go.yaml.in/yaml/v3"
)

// manyRoles is a file of roles that inherit each other, limits and routes, each of
// which says which variant it is of in all its fields.
func manyRoles(n int, variant string) string {
	var roles, limits, routes strings.Builder
	for i := range n {
		fmt.Fprintf(&roles, "  - {name: r%d, description: %s, permissions: [%q], grants: [{permission: %q, condition: \"ip != '%s'\"}]", i, variant, variant+":read", variant+":write", variant)
		if i > 0 {
			fmt.Fprintf(&roles, ", inherits: [r%d]", i-1)
		}
		roles.WriteString("}\n")
		fmt.Fprintf(&limits, "  - {name: l%d, description: %s, subject: ip, permission: %q, rate: %d, period: %dm}\n", i, variant, variant+":*", 10+len(variant), len(variant))
		fmt.Fprintf(&routes, "  - {name: p%d, description: %s, path: /%s/%d, permission: %q}\n", i, variant, variant, i, variant+":read")
	}
	return "roles:\n" + roles.String() + "limits:\n" + limits.String() + "routes:\n" + routes.String()
}

// TestCLIApplyKilled checks that an apply that is killed at any point leaves every
// object as it was or as it should be, and that the next one ends in the same state.
func TestCLIApplyKilled(t *testing.T) {
	t.Parallel()
	_, sh := serveShell(t)
	sh.file(t, "before.yaml", manyRoles(6, "before"))
	sh.file(t, "after.yaml", manyRoles(6, "after"))
	sh.do(t, "apply", "-f", "after.yaml")
	want := sh.do(t, "export")
	for _, at := range []int{0, 1, 3, 7, 12, 17} {
		sh.do(t, "apply", "-f", "before.yaml")
		p := run(t, tollgateBinary, sh.home, sh.env, "", "apply", "-f", "after.yaml")
		for ended := false; strings.Count(p.stdout.String(), "\n") < at && !ended; {
			_, grown := p.stdout.now()
			select {
			case <-grown:
			case <-p.exited:
				ended = true
			}
		}
		p.signal(t, syscall.SIGKILL)
		p.wait(t)
		wantVariants(t, sh.do(t, "export"), "before", "after")
		sh.do(t, "apply", "-f", "after.yaml")
		if got := sh.do(t, "export"); got != want {
			t.Fatalf("killed after %d changes, and run again, there is %s\nwant %s", at, got, want)
		}
	}
	sh.do(t, "apply", "-f", "before.yaml")
	p := run(t, tollgateBinary, sh.home, sh.env, "", "apply", "-f", "after.yaml")
	p.signal(t, os.Interrupt)
	if code := p.wait(t); code != 130 && code != 0 && code != -1 { // it may have ended before, or not have begun
		t.Errorf("interrupted: exit code %d, %s", code, p.stderr)
	}
	sh.do(t, "apply", "-f", "after.yaml")
}

// wantVariants checks that each object of an export is wholly of one variant.
func wantVariants(t *testing.T, export string, variants ...string) {
	t.Helper()
	var all map[string][]map[string]any
	backendtest.Must(t, yaml.Unmarshal([]byte(export), &all))
	seen := 0
	for kind, objects := range all {
		for _, o := range objects {
			text := fmt.Sprint(o)
			var of []string
			for _, variant := range variants {
				if strings.Contains(text, variant) {
					of = append(of, variant)
				}
			}
			switch {
			case len(of) > 1:
				t.Errorf("an object of the %s is a mixture of %v: %s", kind, of, text)
			case len(of) == 1 && (kind == "roles" && strings.Count(text, of[0]) != 4 || kind == "routes" && strings.Count(text, of[0]) != 3):
				t.Errorf("an object of the %s is not whole: %s", kind, text)
			case len(of) == 1:
				seen++
			}
		}
	}
	if seen == 0 {
		t.Error("there are no objects to look at")
	}
}

// TestCLIApplyAtOnce checks that of two applies at once each object is as one of them
// wants it, and that one after them has the last word.
func TestCLIApplyAtOnce(t *testing.T) {
	t.Parallel()
	_, sh := serveShell(t)
	files := []string{"one", "other"}
	for _, name := range files {
		sh.file(t, name+".yaml", manyRoles(6, name))
	}
	for round := range 4 {
		var both []*process
		for i := range files {
			both = append(both, run(t, tollgateBinary, sh.home, sh.env, "", "apply", "-f", files[(i+round)%2]+".yaml"))
		}
		for _, p := range both {
			if code := p.wait(t); code != 0 && !strings.Contains(p.stderr.String(), "somebody changed it") && !strings.Contains(p.stderr.String(), "exists") {
				t.Errorf("exit code %d, %s", code, p.stderr)
			}
		}
		wantVariants(t, sh.do(t, "export"), files...)
	}
	sh.do(t, "apply", "-f", "one.yaml")
	contains(t, sh.do(t, "plan", "-f", "one.yaml"), "Nothing would change.")
}
