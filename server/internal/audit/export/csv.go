package export

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/audit"
)

// csvHeader is the first record, with the columns' names.
const csvHeader = "leaf,id,time,user_id,username,session_id,api_key_id,action,outcome,reason,resource,ip,user_agent,request_id,details,recorded_by\r\n"

// appendCSV appends an event's record (RFC 4180). Details are a JSON object in one field.
func appendCSV(out []byte, entry *audit.Entry) []byte {
	e := &entry.Event
	out = strconv.AppendInt(out, entry.Leaf, 10)
	out = appendField(out, e.ID)
	out = append(out, ',')
	out = appendTime(out, e.Time)
	for _, value := range [...]string{
		e.ActorID, e.ActorName, e.SessionID, e.APIKeyID, string(e.Action), string(e.Outcome),
		e.Reason, e.Resource, e.IP, e.UserAgent, e.RequestID, string(appendDetails(nil, e.Details)), e.RecordedBy,
	} {
		out = appendField(out, value)
	}
	return append(out, "\r\n"...)
}

// appendField appends a comma and a value. One that a spreadsheet would take for a
// formula gets an apostrophe before it, which spreadsheets read as: this is text
// (https://owasp.org/www-community/attacks/CSV_Injection). NUL, which no reader of CSV
// is sure of, becomes U+FFFD.
func appendField(out []byte, value string) []byte {
	out = append(out, ',')
	if value == "" {
		return out
	}
	first, _ := utf8.DecodeRuneInString(value)
	formula := strings.ContainsRune("=+-@\t\r\n＝＋－＠", first)
	if !formula && !strings.ContainsAny(value, ",;\t\"\r\n\x00") {
		return append(out, value...)
	}
	out = append(out, '"')
	if formula {
		out = append(out, '\'')
	}
	for i := range len(value) {
		switch c := value[i]; c {
		case '"':
			out = append(out, `""`...)
		case 0:
			out = append(out, "\ufffd"...)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
