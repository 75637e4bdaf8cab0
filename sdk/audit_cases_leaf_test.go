package tollgate_test

import "strings"

// leafCases are events that the log has in its tree, and that are not as it writes them.
func leafCases() (list []auditCase) {
	good := string(auditLeaf(0).Bytes())
	header, _, _ := strings.Cut(good, "{")
	swap := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	details := func(text string) string { return swap(`{"number":"0"}`, text) }
	at := func(time string) string { return swap(`2026-03-01T12:00:00.000000Z`, time) }
	salt := func(text string) string { return swap(`MDAwMDAwMDAwMDAwMDAwMA==`, text) }
	long := auditLeaf(0)
	long.Resource = strings.Repeat("x", 32<<10-len(good)+len(long.Resource)+1)
	cut := strings.Replace(good, `orders/0`, long.Resource, 1)
	for _, c := range [][2]string{
		{"no first line", good[strings.Index(good, "\n")+1:]}, {"another version", swap("v1", "v2")}, {"only its first line", good[:strings.Index(good, "\n")+1]},
		{"a line break at the end", good + "\n"}, {"cut off", good[:len(good)-1]}, {"a second value", good + "{}"}, {"a list", header + "[]"},
		{"null", header + "null"}, {"a number", header + "1"}, {"not a number", header + "NaN"},
		{"a byte order mark", swap("\n{", "\n\ufeff{")}, {"a space", swap(`,"ip"`, `, "ip"`)},
		{"a member twice", swap(`,"ip"`, `,"ip":"","ip"`)}, {"another member", swap(`,"ip"`, `,"i":"","ip"`)}, {"a member less", swap(`,"reason":""`, ``)},
		{"members in another order", strings.Replace(swap(`,"reason":""`, ``), `,"id"`, `,"reason":"","id"`, 1)}, {"a member in capitals", swap(`"ip"`, `"IP"`)},
		{"null for a text", swap(`"reason":""`, `"reason":null`)}, {"a number for a text", swap(`"reason":""`, `"reason":1`)}, {"a list for a text", swap(`"reason":""`, `"reason":[]`)},
		{"a member of the actor less", swap(`,"userId":"u1"`, ``)}, {"another member of the actor", swap(`,"userId"`, `,"use":"","userId"`)}, {"null for the actor", swap(`{"apiKeyId":"","sessionId":"s1","userId":"u1","username":"mia"}`, `null`)},
		{"a text for the actor", swap(`{"apiKeyId":"","sessionId":"s1","userId":"u1","username":"mia"}`, `"mia"`)}, {"a list for the actor", swap(`{"apiKeyId":"","sessionId":"s1","userId":"u1","username":"mia"}`, `[]`)},
		{"details of null", details(`null`)}, {"details in a list", details(`[]`)}, {"a number in the details", details(`{"number":0}`)}, {"null in the details", details(`{"number":null}`)},
		{"a detail twice", details(`{"a":"","a":""}`)}, {"details in another order", details(`{"b":"","a":""}`)}, {"details in the order of code points", details("{\"\ue000\":\"\",\"\U00010000\":\"\"}")},
		{"an escape too many", swap("mia", `\u006dia`)}, {"an escaped slash", swap("orders/", `orders\/`)}, {"an escape in capitals", swap("orders/", `\u001F`)}, {"a long escape", swap("orders/", `\u000a`)},
		{"a tab as it is", swap("orders/", "\t")}, {"half a character, escaped", swap("mia", `\ud800`)}, {"two halves, escaped", swap("mia", `\ud83d\ude00`)}, {"half a character", swap("mia", "\xed\xa0\x80")},
		{"bytes that are not UTF-8", swap("mia", "\xff")}, {"half a character in a detail's name", details(`{"\udc00":""}`)},
		{"milliseconds", at(`2026-03-01T12:00:00.000Z`)}, {"nanoseconds", at(`2026-03-01T12:00:00.000000000Z`)}, {"another zone", at(`2026-03-01T12:00:00.000000+00:00`)}, {"no zone", at(`2026-03-01T12:00:00.000000`)},
		{"February 30", at(`2026-02-30T12:00:00.000000Z`)}, {"February 29 of another year", at(`2026-02-29T12:00:00.000000Z`)}, {"month 13", at(`2026-13-01T12:00:00.000000Z`)}, {"month 0", at(`2026-00-01T12:00:00.000000Z`)},
		{"24 o'clock", at(`2026-03-01T24:00:00.000000Z`)}, {"a second 60", at(`2026-06-30T23:59:60.000000Z`)}, {"the year 0", at(`0000-03-01T12:00:00.000000Z`)}, {"the year 10000", at(`10000-03-01T12:00:00.000000Z`)},
		{"a small z", at(`2026-03-01T12:00:00.000000z`)}, {"the time of another letter", at(`2026-03-01T12:00:00.000000X`)}, {"a small t", at(`2026-03-01t12:00:00.000000Z`)}, {"a comma in the time", at(`2026-03-01T12:00:00,000000Z`)}, {"no time", at(``)}, {"other digits in the time", at(`٢026-03-01T12:00:00.000000Z`)}, {"a line break in the time", at(`2026-03-01T12:00:00.000000Z\n`)},
		{"a salt with other last bits", salt(`MDAwMDAwMDAwMDAwMDAwMB==`)}, {"a salt without padding", salt(`MDAwMDAwMDAwMDAwMDAwMA`)}, {"a salt in the alphabet of URLs", salt(`____`)}, {"a salt with a line break", salt(`MDAw\nMDAw`)}, {"a salt of null", strings.Replace(good, `"MDAwMDAwMDAwMDAwMDAwMA=="`, `null`, 1)},
		{"lists in lists", swap(`"reason":""`, `"reason":`+strings.Repeat("[", 1500)+strings.Repeat("]", 1500))},
		{"more than 32 KiB", cut},
	} {
		if c[1] == good {
			panic("the leaf is as it was: " + c[0])
		}
		text := loneProof(c[1])
		if len(text) > 4000 {
			text = unrepeated(unrepeated(unrepeated(text, "eHh4"), "W1tb"), "XV1d")
		}
		list = append(list, unproven("an event with "+c[0], text))
	}
	return append(list,
		proven("the first day of all", loneProof(at(`0001-01-01T00:00:00.000000Z`))),
		proven("February 29", loneProof(at(`2028-02-29T23:59:59.999999Z`))),
		proven("the last day of all", loneProof(at(`9999-12-31T23:59:59.999999Z`))),
		proven("a salt of three bytes", loneProof(salt(`AAAA`))),
	)
}
