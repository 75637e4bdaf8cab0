package tollgate_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	tollgate "github.com/tollgatehq/tollgate/sdk"
)

// auditCase is something that every SDK verifies alike: testdata/README.md.
type auditCase struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"`

	OnlyKeys    bool     `json:"onlyKeys,omitempty"`
	Proof       string   `json:"proof,omitempty"`
	ProofBase64 string   `json:"proofBase64,omitempty"`
	Checkpoint  string   `json:"checkpoint,omitempty"`
	Earlier     string   `json:"earlier,omitempty"`
	Later       string   `json:"later,omitempty"`
	Hashes      []string `json:"hashes,omitempty"`

	Want any `json:"want"` // nil: refused
}

// proven and unproven are cases of proofs.
func proven(name, proof string, keys ...string) auditCase {
	return auditCase{Name: name, Keys: keysOr(keys), Proof: proof, Want: true}
}

func unproven(name, proof string, keys ...string) auditCase {
	c := auditCase{Name: name, Keys: keysOr(keys), Proof: proof}
	if !utf8.ValidString(proof) {
		c.Proof, c.ProofBase64 = "", base64.StdEncoding.EncodeToString([]byte(proof))
	}
	return c
}

func keysOr(keys []string) []string {
	if len(keys) == 0 {
		return []string{auditKey.key()}
	}
	return keys
}

// TestAuditCases: the file that all SDKs verify has what this package proves and refuses.
func TestAuditCases(t *testing.T) {
	t.Parallel()
	const file = "testdata/audit.json"
	var out bytes.Buffer
	out.WriteString("[")
	names := map[string]bool{}
	for i, c := range auditCases(t) {
		if names[c.Name] {
			t.Errorf("%s: twice", c.Name)
		}
		names[c.Name] = true
		got, err := c.verify(t)
		if c.Want == nil && err == nil {
			t.Errorf("%s: not refused, but %+v", c.Name, got)
		}
		if c.Want != nil && err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		c.Want = got
		out.WriteString([]string{"\n", ",\n"}[min(i, 1)])
		line := json.NewEncoder(&out)
		line.SetEscapeHTML(false)
		must(t, line.Encode(c))
		out.Truncate(out.Len() - 1)
	}
	out.WriteString("\n]\n")
	if *update {
		must(t, os.WriteFile(file, out.Bytes(), 0o644))
	}
	text, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(text, out.Bytes()) {
		t.Errorf("%s is not what this package does; go test ./sdk -run TestAuditCases -update", file)
	}
}

// verify is what the SDK makes of a case, in the members of the file.
func (c auditCase) verify(t *testing.T) (any, error) {
	t.Helper()
	keys, err := tollgate.ParseAuditLogKeys(c.Keys...)
	if err != nil {
		return nil, err
	}
	switch {
	case c.OnlyKeys:
		return true, nil
	case c.Checkpoint != "":
		checkpoint, err := keys.VerifyCheckpoint([]byte(repeated(t, c.Checkpoint)))
		if err != nil {
			return nil, err
		}
		return checkpointMembers(checkpoint), nil
	case c.Later != "":
		earlier, err := keys.VerifyCheckpoint([]byte(c.Earlier))
		must(t, err)
		later, err := keys.VerifyCheckpoint([]byte(c.Later))
		must(t, err)
		hashes := make([][]byte, len(c.Hashes))
		for i, text := range c.Hashes {
			hashes[i], err = base64.StdEncoding.DecodeString(text)
			must(t, err)
		}
		if err := tollgate.VerifyConsistency(earlier, later, hashes); err != nil {
			return nil, err
		}
		return true, nil
	}
	proof := []byte(repeated(t, c.Proof))
	if c.ProofBase64 != "" {
		proof, err = base64.StdEncoding.DecodeString(c.ProofBase64)
		must(t, err)
	}
	e, err := keys.VerifyProof(proof)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"index": fmt.Sprint(e.Index), "checkpoint": checkpointMembers(e.Checkpoint),
		"id": e.ID, "time": e.Time.Format("2006-01-02T15:04:05.000000Z07:00"),
		"userId": e.UserID, "username": e.Username, "sessionId": e.SessionID, "apiKeyId": e.APIKeyID,
		"action": e.Action, "outcome": e.Outcome, "reason": e.Reason, "resource": unrepeated(e.Resource, "x"), "ip": e.IP,
		"userAgent": e.UserAgent, "requestId": e.RequestID, "details": e.Details, "recordedBy": e.RecordedBy,
	}, nil
}

func checkpointMembers(c tollgate.AuditCheckpoint) map[string]any {
	return map[string]any{"origin": c.Origin, "size": fmt.Sprint(c.Size), "root": base64.StdEncoding.EncodeToString(c.Root[:])}
}

var repeats = regexp.MustCompile(`(?s)\$\{repeat (.*?) (\d+)\}`)

// repeated writes out what the file has in short: ${repeat x 300}.
func repeated(t *testing.T, text string) string {
	t.Helper()
	return repeats.ReplaceAllStringFunc(text, func(short string) string {
		m := repeats.FindStringSubmatch(short)
		n, err := strconv.Atoi(m[2])
		must(t, err)
		return strings.Repeat(m[1], n)
	})
}

// unrepeated is the reverse for one unit that is there many times.
func unrepeated(text, unit string) string {
	for n := len(text) / len(unit); n >= 20; n-- {
		if long := strings.Repeat(unit, n); strings.Contains(text, long) {
			return strings.Replace(text, long, fmt.Sprintf("${repeat %s %d}", unit, n), 1)
		}
	}
	return text
}
