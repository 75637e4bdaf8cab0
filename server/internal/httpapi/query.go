package httpapi

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// restQueries refuses the queries that the REST transcoder would give a meaning
// that their caller may not have meant. It reads the same google.api.http
// options as the transcoder.
type restQueries struct {
	next   http.Handler
	routes []restRoute // where two match a path, the first is the transcoder's
}

// restRoute is the pattern of an RPC that takes its fields from path and query.
type restRoute struct {
	method   string
	segments []string // a variable's name is in braces
	message  protoreflect.MessageDescriptor
}

func newRESTQueries(next http.Handler) (*restQueries, error) {
	q := &restQueries{next: next}
	for _, method := range contract.Methods() {
		rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
		for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
			verb, path := http.MethodGet, rule.GetGet()
			if path == "" {
				verb, path = http.MethodDelete, rule.GetDelete()
			}
			if path == "" {
				continue // it takes no query
			}
			if strings.ContainsAny(path, "=*:.") {
				return nil, fmt.Errorf("%s has the path %s: only whole segments may be variables, and only of fields of the message itself", method.FullName(), path)
			}
			q.routes = append(q.routes, restRoute{verb, strings.Split(path, "/"), method.Input()})
		}
	}
	// The transcoder prefers a literal segment to a variable, from the left.
	slices.SortStableFunc(q.routes, func(a, b restRoute) int {
		return slices.CompareFunc(a.segments, b.segments, func(x, y string) int { return isVariable(x) - isVariable(y) })
	})
	return q, nil
}

func isVariable(segment string) int {
	if strings.HasPrefix(segment, "{") {
		return 1
	}
	return 0
}

func (q *restQueries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = inSegments(r)
	if strings.HasSuffix(r.URL.Path, "/") { // not the path of a thing without a name
		writePlain(w, r, http.StatusNotFound, caller.From(r.Context()).RequestID)
		return
	}
	if !utf8.ValidString(r.URL.Path) { // no message has such a text
		writeFault(w, fault.New(fault.Invalid, "BAD_REQUEST", "the path must be UTF-8 behind its %%XX"), caller.From(r.Context()).RequestID)
		return
	}
	plainJSON(r.Header)
	if r.Method == http.MethodHead { // RFC 9110 §9.3.2; net/http leaves the body out
		get := *r
		get.Method, r = http.MethodGet, &get
	}
	if r.URL.RawQuery != "" {
		if refused := q.check(r); refused != nil {
			writeFault(w, refused, caller.From(r.Context()).RequestID)
			return
		}
	}
	q.next.ServeHTTP(w, r)
}

// inSegments is the request with its path as the transcoder must be given it: that
// splits URL.Path, which net/http has decoded, decodes each segment once more, and
// takes a colon in the last one for a verb, of which the contract has none. A name
// with a slash, a percent sign or a colon would be another name, or none.
func inSegments(r *http.Request) *http.Request {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, segment := range segments {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			return r // net/http has decoded it, so this does not happen
		}
		segments[i] = inSegment.Replace(decoded)
	}
	path := strings.Join(segments, "/")
	if path == r.URL.Path {
		return r
	}
	spelled, at := *r, *r.URL
	at.Path, at.RawPath, spelled.URL = path, "", &at
	return &spelled
}

var inSegment = strings.NewReplacer("%", "%25", "/", "%2F", ":", "%3A")

// plainJSON spells the type of a JSON body as the transcoder knows it, which
// compares bytes: types and charset are case-insensitive, and the value may be
// quoted (RFC 9110 §8.3.1 and §8.3.2).
func plainJSON(h http.Header) {
	const json = "application/json"
	if values := h.Values("Content-Type"); len(values) != 1 || values[0] == json {
		return
	}
	kind, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != json {
		return
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return
		}
	}
	h.Set("Content-Type", json)
}

func (q *restQueries) check(r *http.Request) *fault.Error {
	if r.Method != http.MethodGet && r.Method != http.MethodDelete {
		// The query would win over the body, and passwords and tokens do not
		// belong in a URL, which ends up in logs.
		return fault.New(fault.Invalid, "BAD_REQUEST", "%s takes its fields from the body; leave the query out", method(r.Method))
	}
	query, refused := readQuery(r)
	if refused != nil {
		return refused
	}
	for _, route := range q.routes {
		if route.matches(r.Method, r.URL.Path) {
			return route.check(query)
		}
	}
	return nil // there is no such path, which is for the transcoder to say
}

// readQuery takes a query apart. What cannot be read is refused, not left out.
func readQuery(r *http.Request) (url.Values, *fault.Error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.New(fault.Invalid, "BAD_REQUEST", "the query cannot be read; write it as name=value&name=value, with everything else than letters, digits and -._~ as %%XX")
	}
	for name, values := range query {
		if !utf8.ValidString(name + strings.Join(values, "")) {
			return nil, fault.New(fault.Invalid, "BAD_REQUEST", "the query must be UTF-8 behind its %%XX")
		}
	}
	return query, nil
}

// matches compares segments as inSegments leaves them, as the transcoder does.
func (route restRoute) matches(method, path string) bool {
	if method != route.method {
		return false
	}
	segments := strings.Split(path, "/")
	return slices.EqualFunc(route.segments, segments, func(pattern, segment string) bool {
		return pattern == segment || isVariable(pattern) == 1
	})
}

// check refuses a parameter that names a variable of the path, which it would
// replace, in either spelling of the field's name (user_id, userId), and a
// field that is given more than once, unless it is a list: which of the values
// counts would be chance. What names no field is for the transcoder to refuse.
func (route restRoute) check(query url.Values) *fault.Error {
	given := map[protoreflect.FullName]bool{}
	for name, values := range query {
		first, _, nested := strings.Cut(name, ".")
		field := route.message.Fields().ByJSONName(first)
		if field == nil {
			field = route.message.Fields().ByName(protoreflect.Name(first))
		}
		switch {
		case field == nil:
		case slices.Contains(route.segments, "{"+string(field.Name())+"}"):
			return fault.Field(field.JSONName(), "is in the path; leave it out of the query")
		case nested:
			return fault.Field(field.JSONName(), "has no parts in a query; give it as one value")
		case !field.IsList() && (len(values) > 1 || given[field.FullName()]):
			return fault.Field(field.JSONName(), "is in the query more than once; give it once")
		case isTime(field) && !isRFC3339(values[0]):
			return fault.Field(field.JSONName(), "must be a time of RFC 3339, such as 2026-11-24T15:04:05Z")
		default:
			given[field.FullName()] = true
		}
	}
	return nil
}

func isTime(field protoreflect.FieldDescriptor) bool {
	return !field.IsList() && field.Message() != nil && field.Message().FullName() == "google.protobuf.Timestamp"
}

func isRFC3339(text string) bool {
	_, err := time.Parse(time.RFC3339, text)
	return err == nil
}
