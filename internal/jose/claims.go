package jose

import (
	"encoding/json"
	"strconv"
	"time"
)

const (
	maxAMR     = 16           // ways of signing in
	latestTime = 253402300799 // the end of the year 9999 in seconds since 1970
)

// Claims reads the members of a JSON object. It notes whether one that was
// asked for was missing, empty or of another type: ask OK after the last.
type Claims struct {
	members map[string]json.RawMessage
	bad     bool
}

// OK reports whether every claim that was read was good.
func (c *Claims) OK() bool { return !c.bad }

// Has reports whether a claim is there, also as null.
func (c *Claims) Has(name string) bool {
	_, ok := c.members[name]
	return ok
}

// Text reads a text that is not empty.
func (c *Claims) Text(name string) string {
	text, ok := textOf(c.members[name])
	c.bad = c.bad || !ok
	return text
}

// AMR reads "amr", how the user signed in (RFC 8176): up to 16 texts, none of
// them empty.
func (c *Claims) AMR() []string { return c.Texts("amr", maxAMR) }

// Texts reads a list of at most so many texts, none of them empty. The list may
// be.
func (c *Claims) Texts(name string, most int) []string {
	var list []json.RawMessage
	if json.Unmarshal(c.members[name], &list) != nil || list == nil || len(list) > most {
		c.bad = true
		return nil
	}
	texts := make([]string, len(list))
	for i, raw := range list {
		text, ok := textOf(raw)
		texts[i], c.bad = text, c.bad || !ok
	}
	return texts
}

// Seconds reads a NumericDate in whole seconds (RFC 7519 §2), from 1970 to the
// year 9999.
func (c *Claims) Seconds(name string) time.Time {
	seconds, err := strconv.ParseInt(string(c.members[name]), 10, 64)
	if err != nil || seconds <= 0 || seconds > latestTime {
		c.bad = true
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// Flag reads a Boolean that is false when it is not there.
func (c *Claims) Flag(name string) bool {
	raw, present := c.members[name]
	set := string(raw) == "true"
	c.bad = c.bad || present && !set && string(raw) != "false"
	return set
}

// Period reads when the token was issued and when it ends, iat and exp (RFC
// 7519 §4.1): it must end after it begins, and begin, as well as nbf when it is
// there, at most ClockSkew after now. Whether it has ended is not looked at: an
// end has no leeway.
func (c *Claims) Period(now time.Time) (issued, expires time.Time) {
	latest := now.Add(ClockSkew)
	issued, expires = c.Seconds("iat"), c.Seconds("exp")
	early := issued.After(latest)
	if c.Has("nbf") { // Tollgate writes none
		early = c.Seconds("nbf").After(latest) || early
	}
	c.bad = c.bad || early || !expires.After(issued)
	return issued, expires
}

// textOf is the JSON string in raw, which is not empty.
func textOf(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return text, err == nil && text != ""
}
