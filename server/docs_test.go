package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestSecurityDoc checks that the tests that docs/security.md names exist.
func TestSecurityDoc(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/security.md")
	backendtest.Must(t, err)
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1)
	if len(named) < 50 {
		t.Fatalf("only %d tests are named", len(named))
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, root := range []string{".", "../sdk", "../internal"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(text, -1) {
				there[string(m[1])] = true
			}
			return err
		})
		backendtest.Must(t, err)
	}
	for _, m := range named {
		if !there[string(m[1])] {
			t.Errorf("docs/security.md names %s, which does not exist", m[1])
		}
	}
}

// TestWhereIs checks that the files that CONTRIBUTING.md names exist.
func TestWhereIs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../CONTRIBUTING.md")
	backendtest.Must(t, err)
	named := regexp.MustCompile("`((?:server|proto|sdk|migrations|internal|console)/[\\w./]+)`").FindAllSubmatch(page, -1)
	if len(named) < 15 {
		t.Fatalf("only %d files are named", len(named))
	}
	for _, m := range named {
		if _, err := os.Stat(filepath.Join("..", string(m[1]))); err != nil {
			t.Error(err)
		}
	}
}
