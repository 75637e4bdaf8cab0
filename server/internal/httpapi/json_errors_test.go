package httpapi

import (
	"strings"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
)

// A value that its field cannot take is refused with the field's name and the
// form it takes.
func TestBadValueNamesField(t *testing.T) {
	const seconds = `must be a number of seconds and an s, in quotes, such as "60s"`
	for _, c := range []struct {
		body, want string
		message    proto.Message
	}{
		{`{"name":"n","period":"1m"}`, `field period: ` + seconds + ` (line 1, column 22)`, &tollgatev1.CreateLimitRequest{}},
		{`{"name":"n","period": 60}`, `field period: ` + seconds, &tollgatev1.CreateLimitRequest{}},
		{"{\"name\":\"\u00fc\",\n \"period\" :\n  \"1h\"}", `field period: ` + seconds + ` (line 3, column 3)`, &tollgatev1.CreateLimitRequest{}},
		{`{"period":"9999999999999s"}`, `field period: ` + seconds, &tollgatev1.CreateLimitRequest{}},
		{`{"subject":"USER"}`, `field subject: must be one of "SUBJECT_USER", "SUBJECT_IP"`, &tollgatev1.CreateLimitRequest{}},
		{`{"rate":"x"}`, `invalid value for`, &tollgatev1.CreateLimitRequest{}},
		{`{"nam":"x"}`, `unknown field "nam"`, &tollgatev1.CreateLimitRequest{}},
		{`{"name":"x"`, `unexpected EOF`, &tollgatev1.CreateLimitRequest{}},
		{`{"name":"k","expiresAt":"tomorrow"}`, `field expiresAt: must be a time of RFC 3339`, &tollgatev1.CreateAPIKeyRequest{}},
	} {
		err := newStrictJSON().Unmarshal([]byte(c.body), c.message)
		if err == nil || !strings.HasPrefix(err.Error(), "bad JSON: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.body, err, c.want)
		}
	}
}
