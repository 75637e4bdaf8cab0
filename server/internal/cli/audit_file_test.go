package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenExport cuts a file after every byte and checks where an export goes on: after
// the last whole line, which stays, and what comes after it does not.
func TestOpenExport(t *testing.T) {
	t.Parallel()
	for format, lines := range map[string][]string{
		"ndjson": {`{"leaf":0,"id":"a"}` + "\n", `{"leaf":7,"id":"b","reason":"\n"}` + "\n", `{"leaf":12,"id":"c"}` + "\n"},
		"ocsf":   {`{"class_uid":3002,"metadata":{"sequence":0}}` + "\n", `{"metadata":{"sequence":7}}` + "\n", `{"metadata":{"sequence":12}}` + "\n"},
		"csv":    {"leaf,id,user_agent\r\n", "0,a,\"two\r\nlines, and \"\"quotes\"\"\r\n\"\r\n", "7,b,\r\n", "12,c,\"\n\"\r\n"},
	} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			text := strings.Join(lines, "")
			path := filepath.Join(t.TempDir(), "export")
			for cut := range len(text) + 1 {
				if err := os.WriteFile(path, []byte(text[:cut]), 0o600); err != nil {
					t.Fatal(err)
				}
				kept, next := "", int64(0)
				for i, line := range lines {
					if len(kept)+len(line) > cut {
						break
					}
					kept += line
					next = []int64{1, 8, 13, 0}[i]
					if format == "csv" {
						next = []int64{0, 1, 8, 13}[i]
					}
				}
				if next == 0 {
					kept = ""
				}
				file, got, err := openExport(path, format, true)
				if err != nil {
					t.Fatalf("cut after %d bytes: %v", cut, err)
				}
				fmt.Fprint(file, "more")
				file.Close()
				after, err := os.ReadFile(path)
				if err != nil || string(after) != kept+"more" || got != next {
					t.Errorf("cut after %d bytes: next leaf %d, want %d; file %q, want %q; %v", cut, got, next, after, kept+"more", err)
				}
			}
		})
	}
}

func TestOpenExportRefuses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "export")
	if _, _, err := openExport(path, "ndjson", false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, _, err := openExport(path, "ndjson", false); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("a file that is there: %v", err)
	}
	for format, texts := range map[string][]string{
		"ndjson": {"leaf,id\r\n", "a master key", `{"class_uid":1`},
		"csv":    {"{\"leaf\":1}\n", "a master key", "7", "leaves,"},
		"ocsf":   {"{\"leaf\":1}\n", "a master key", `{"leaf":1`},
	} {
		for _, text := range texts {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := openExport(path, format, true); err == nil || !strings.Contains(err.Error(), "is no export as "+format) {
				t.Errorf("%q as %s: %v", text, format, err)
			}
			if after, _ := os.ReadFile(path); string(after) != text {
				t.Errorf("another file was cut to %q", after)
			}
		}
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 1<<20+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"ndjson", "csv"} {
		if _, _, err := openExport(path, format, true); err == nil {
			t.Errorf("%s: a file of one long line was taken for an export", format)
		}
	}
	if _, _, err := openExport(os.DevNull, "csv", true); err == nil {
		t.Error("a device says where to go on")
	}
}
