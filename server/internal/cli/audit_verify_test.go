package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/internal/auditlog"
)

// TestConcludePlain checks that who wrote to the database cannot move the cursor of whoever
// verifies it, to write over what was found.
func TestConcludePlain(t *testing.T) {
	t.Parallel()
	report := auditlog.Report{
		Checkpoint: auditlog.Checkpoint{Origin: "a\u009b2J", Size: 1},
		Findings:   []auditlog.Finding{{EventID: "x)\x1b[2J\x1b[H\rwhole: each event is the one that was recorded\n", Text: "edited"}},
	}
	var out bytes.Buffer
	if err := (VerifyFlags{}).Conclude(&out, auditlog.Verification{}, &report); err == nil {
		t.Error("the log is whole")
	}
	if strings.ContainsAny(out.String(), "\x1b\r\u009b") || strings.Contains(out.String(), "\nwhole") {
		t.Errorf("written: %q", &out)
	}
}
