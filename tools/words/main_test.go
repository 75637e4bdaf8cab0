package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	text := "package mushroom // fine\n// behind the door\nfunc maxRooms() {}\nconst reseal_all = \"worldwide\"\n"
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	got, err := check(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`a.go:2: "door", better: listener, middleware, entry point, source`,
		`a.go:3: "Rooms", better: package`,
		`a.go:4: "reseal", better: rewrap`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
