package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

func master(t *testing.T, fill byte) *Master {
	t.Helper()
	m, err := New(bytes.Repeat([]byte{fill}, KeySize))
	backendtest.Must(t, err)
	return m
}

func TestSealOpen(t *testing.T) {
	t.Parallel()
	for _, plain := range []string{"", "secret", strings.Repeat("long", 10_000)} {
		sealed := master(t, 1).Seal([]byte(plain), "row 1")
		if plain != "" && bytes.Contains(sealed, []byte(plain)) {
			t.Error("the secret can be read")
		}
		got, err := master(t, 1).Open(sealed, "row 1")
		if err != nil || string(got) != plain {
			t.Errorf("got %.20q, %v", got, err)
		}
	}
	m := master(t, 1)
	if bytes.Equal(m.Seal([]byte("a"), "r"), m.Seal([]byte("a"), "r")) {
		t.Error("the same secret looks the same twice")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	m := master(t, 1)
	sealed := m.Seal([]byte("secret"), "row 1")
	cases := map[string]struct {
		master  *Master
		sealed  []byte
		context string
	}{
		"another key":     {master(t, 2), sealed, "row 1"},
		"another context": {m, sealed, "row 2"},
		"no context":      {m, sealed, ""},
		"nothing":         {m, nil, "row 1"},
		"the nonce alone": {m, sealed[:12], "row 1"},
		"cut":             {m, sealed[:len(sealed)-1], "row 1"},
		"more":            {m, append(slices.Clip(sealed), 0), "row 1"},
	}
	for name, c := range cases {
		if got, err := c.master.Open(c.sealed, c.context); !errors.Is(err, ErrWrongKey) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := m.Open(bad, "row 1"); !errors.Is(err, ErrWrongKey) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

func TestDerive(t *testing.T) {
	t.Parallel()
	m := master(t, 1)
	a := m.Derive("page tokens")
	if len(a) != 32 || !bytes.Equal(a, master(t, 1).Derive("page tokens")) {
		t.Error("not the same on every instance")
	}
	for name, other := range map[string][]byte{
		"another purpose": m.Derive("page token"), "another key": master(t, 2).Derive("page tokens"),
		"the master key": bytes.Repeat([]byte{1}, KeySize), "the sealing key": m.Derive("seal"),
	} {
		if bytes.Equal(a, other) {
			t.Errorf("the same as %s", name)
		}
	}
}

func TestNewRefusesOtherSizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Errorf("%d bytes taken", n)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0xfb, 0xef}, KeySize/2) // + and / in base64
	for name, text := range map[string]string{
		"standard": base64.StdEncoding.EncodeToString(key), "without padding": base64.RawStdEncoding.EncodeToString(key),
		"for URLs": base64.URLEncoding.EncodeToString(key), "both": base64.RawURLEncoding.EncodeToString(key),
		"with space around": " " + base64.StdEncoding.EncodeToString(key) + "\r\n",
	} {
		if got, err := Parse(text); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	const secret = "hunter2hunter2hunter2hunter2hunter2"
	for _, text := range []string{"", "short", secret, base64.StdEncoding.EncodeToString(key[:31])} {
		_, err := Parse(text)
		if err == nil {
			t.Errorf("%q taken", text)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
}

func TestFileIsCreatedOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	first, err := File(path)
	if err != nil || len(first) != KeySize {
		t.Fatal(len(first), err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	second, err := File(path)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("the second start has another key: %v", err)
	}
	other, err := File(filepath.Join(t.TempDir(), "master.key"))
	if err != nil || bytes.Equal(first, other) {
		t.Errorf("two files with one key: %v", err)
	}
}

func TestFileInvalid(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"empty": "", "text": "not a key\n"} {
		path := filepath.Join(t.TempDir(), "master.key")
		backendtest.Must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := File(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%s: now %q", name, got)
		}
	}
	if _, err := File(filepath.Join(t.TempDir(), "missing", "master.key")); err == nil {
		t.Error("a folder that is not there")
	}
}

// Starts at the same time get one key, and none reads a file that is half written.
func TestFileConcurrently(t *testing.T) {
	t.Parallel()
	for range 50 {
		path := filepath.Join(t.TempDir(), "master.key")
		var (
			starting sync.WaitGroup
			keys     [8][]byte
			errs     [8]error
			gun      = make(chan struct{})
		)
		for i := range keys {
			starting.Go(func() {
				<-gun
				keys[i], errs[i] = File(path)
			})
		}
		close(gun)
		starting.Wait()
		for i := range keys {
			if errs[i] != nil || !bytes.Equal(keys[i], keys[0]) {
				t.Fatalf("start %d: %v", i, errs[i])
			}
		}
		if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
			t.Fatalf("left behind: %v", names)
		}
	}
}
