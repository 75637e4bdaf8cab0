package sinks

import (
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

func TestParse(t *testing.T) {
	t.Parallel()
	secret := secretFile(t, testSecret)
	for _, good := range []string{
		"a=file:/var/log/audit.ndjson", "a=file:///var/log/audit.ndjson", "a=file:/a%20b#rotate=0&keep=1&mode=0640&format=ocsf&from=end&batch=1",
		"a=https://siem.example/hook#secret=file:" + secret, "a=http://127.0.0.1:9/#secret=file:" + secret + "&batch=10000",
		"a=https://siem.example/hook?token=x#authorization=file:" + secret,
	} {
		if targets, err := Parse([]string{good}, env(clock.Real())); err != nil || len(targets) != 1 || targets[0].Name != "a" || targets[0].Size.Events == 0 {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"":                                     "NAME=URL",
		"/var/log/audit.ndjson":                "NAME=URL",
		"https://siem.example/hook":            "NAME=URL",
		"A=file:/a":                            "NAME=URL",
		"a=/var/log/audit.ndjson":              "file:PATH",
		"a=ftp://x/y":                          "file:PATH",
		"a=file:audit.ndjson":                  "whole path",
		"a=file:/%zz":                          "whole path",
		"a=file:/a#rotate=1KB":                 "rotate must be a size",
		"a=file:/a#rotate=many":                "rotate must be a size",
		"a=file:/a#keep=0":                     "keep must be a number",
		"a=file:/a#mode=0666":                  "mode must be",
		"a=file:/a#mode=999":                   "mode must be",
		"a=file:/a#rotat=1MB":                  `"rotat" is no option of such a sink; there are batch, format, from, keep, mode, rotate`,
		"a=file:/a#keep=1&keep=2":              "more than once",
		"a=file:/a#%zz":                        "name=value",
		"a=file:/a#from=yesterday":             "from must be start",
		"a=file:/a#format=csv":                 "format must be",
		"a=https://siem.example/":              "who sends",
		"a=https://u:hunter2@siem/":            "without a user",
		"a=https:///hook":                      "a host",
		"a=http://siem.example/":               "use https://",
		"a=https://s/#secret=hunter2":          "who lists processes",
		"a=https://s/#secret=env:NOT_SET_HERE": "NOT_SET_HERE is empty",
		"a=https://s/#secret=file:/not/there":  "/not/there",
		"a=https://s/#secret=file:" + secretFile(t, "hunter2"):          "openssl rand",
		"a=https://s/#secret=file:" + secretFile(t, "whsec_aHVudGVyMg"): "openssl rand",
		"a=https://s/#secret=file:" + secret + "&ca=/not/there":         "/not/there",
		"a=https://s/#secret=file:" + secret + "&ca=" + secret:          "no certificate",
		"a=https://s/#secret=file:" + secret + "&batch=20000":           "batch must be",
	} {
		_, err := Parse([]string{bad}, env(clock.Real()))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", bad, err, says)
		}
	}
	for _, same := range []string{"b=file:/a", "b=file:///a/../a#format=ocsf"} {
		if _, err := Parse([]string{"a=file:/a", same}, env(clock.Real())); err == nil || !strings.Contains(err.Error(), "sinks a and b write the same file") {
			t.Errorf("%s, too: %v", same, err)
		}
	}
	if _, err := Parse([]string{"a=file:/a", "a=file:/b"}, env(clock.Real())); err == nil || !strings.Contains(err.Error(), "two sinks are called a") {
		t.Errorf("two of one name: %v", err)
	}
}
