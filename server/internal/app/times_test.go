package app

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
)

// TestTimesAgree: what is said in a default and a help text is what
// the server and the SDK go by.
func TestTimesAgree(t *testing.T) {
	t.Parallel()
	field, _ := reflect.TypeFor[Config]().FieldByName("SigningKeyAhead")
	if got, err := time.ParseDuration(field.Tag.Get("default")); err != nil || got != jose.KeyLeadTime {
		t.Errorf("--signing-key-ahead is %s unless given, want %s (%v)", got, jose.KeyLeadTime, err)
	}
	if age := fmt.Sprintf("%d minutes", int(jose.KeySetMaxAge/time.Minute)); !strings.Contains(field.Tag.Get("help"), age) {
		t.Errorf("the help of --signing-key-ahead does not say %q", age)
	}
	// Somebody fetches the key set just before a key is published, keeps it to
	// its end, and gets a token of an instance whose clock is ahead.
	if jose.KeyLeadTime <= jose.KeySetMaxAge+jose.ClockSkew {
		t.Errorf("a key is published %s before it signs, too short", jose.KeyLeadTime)
	}
}
