package export

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/audit"
)

// AppendNDJSON appends an event's line: what the API answers for the event, after the
// number leaf.
func AppendNDJSON(out []byte, e *audit.Entry) []byte {
	out = append(out, `{"leaf":`...)
	out = strconv.AppendInt(out, e.Leaf, 10)
	out = append(out, ',')
	return append(appendEvent(out, &e.Event), "}\n"...)
}

// appendEvent appends the fields of an event as protojson writes them, with those that
// are empty.
func appendEvent(out []byte, e *audit.Event) []byte {
	out = appendMember(out, `"id":`, e.ID)
	out = append(out, `,"time":"`...)
	out = appendTime(out, e.Time)
	out = appendMember(out, `","actor":{"userId":`, e.ActorID)
	out = appendMember(out, `,"username":`, e.ActorName)
	out = appendMember(out, `,"sessionId":`, e.SessionID)
	out = appendMember(out, `,"apiKeyId":`, e.APIKeyID)
	out = appendMember(out, `},"action":`, string(e.Action))
	out = appendMember(out, `,"outcome":`, outcomeName(e.Outcome))
	out = appendMember(out, `,"reason":`, e.Reason)
	out = appendMember(out, `,"resource":`, e.Resource)
	out = appendMember(out, `,"ip":`, e.IP)
	out = appendMember(out, `,"userAgent":`, e.UserAgent)
	out = appendMember(out, `,"requestId":`, e.RequestID)
	out = append(out, `,"details":`...)
	out = appendDetails(out, e.Details)
	return appendMember(out, `,"recordedBy":`, e.RecordedBy)
}

func outcomeName(o audit.Outcome) string {
	switch o {
	case audit.Success:
		return "OUTCOME_SUCCESS"
	case audit.Denied:
		return "OUTCOME_DENIED"
	case audit.Failure:
		return "OUTCOME_FAILURE"
	default:
		return "OUTCOME_UNSPECIFIED"
	}
}

// appendTime appends a time in RFC 3339 with 0, 3 or 6 digits of a second, as protojson
// has it.
func appendTime(out []byte, t time.Time) []byte {
	layout := "2006-01-02T15:04:05.000000Z"
	switch micros := t.Nanosecond() / int(time.Microsecond); {
	case micros == 0:
		layout = "2006-01-02T15:04:05Z"
	case micros%1000 == 0:
		layout = "2006-01-02T15:04:05.000Z"
	}
	return t.UTC().AppendFormat(out, layout)
}

// appendDetails appends a JSON object, its names in their order.
func appendDetails(out []byte, details map[string]string) []byte {
	out = append(out, '{')
	if len(details) > 0 {
		for i, key := range slices.Sorted(maps.Keys(details)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendText(out, key), ':')
			out = appendText(out, details[key])
		}
	}
	return append(out, '}')
}

// appendMember appends what is before a value, and the value.
func appendMember(out []byte, before, value string) []byte {
	return appendText(append(out, before...), value)
}

const hex = "0123456789abcdef"

// appendText appends a JSON string (RFC 8259 §7) as protojson writes it: only what must
// be is escaped. What is no UTF-8 becomes U+FFFD.
func appendText(out []byte, text string) []byte {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\ufffd")
	}
	out = append(out, '"')
	from := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		out = append(out, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\b':
			out = append(out, `\b`...)
		case '\f':
			out = append(out, `\f`...)
		case '\n':
			out = append(out, `\n`...)
		case '\r':
			out = append(out, `\r`...)
		case '\t':
			out = append(out, `\t`...)
		default:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(out, text[from:]...), '"')
}
