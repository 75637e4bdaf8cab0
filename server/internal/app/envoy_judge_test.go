package app

import (
	"net/http"
	"net/textproto"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http/httpguts"
)

// verdict is what Envoy makes of an answer of ext_authz.
type verdict struct {
	kind     string      // allowed, denied, error
	why      string      // of an error
	status   int         // of what the client gets, when denied
	client   http.Header // what the client gets, besides the upstream's own
	body     string
	upstream http.Header // what the service gets, when allowed
}

// judge reads an answer as Envoy does: a gRPC error is an error, status 0 alone is
// an allow, error_response is an error, all else is denied. sent is the client's
// request. Mutations are those of validate_mutations: what cannot be a header is an
// error.
func judge(res *authv3.CheckResponse, err error, sent http.Header) verdict {
	v := verdict{client: http.Header{}}
	if err != nil {
		return verdict{kind: "error", why: err.Error()}
	}
	if res.GetStatus().GetCode() != 0 {
		if res.GetErrorResponse() != nil {
			return verdict{kind: "error", why: "error_response"}
		}
		v.kind, v.status, v.body = "denied", http.StatusForbidden, res.GetDeniedResponse().GetBody()
		if status := res.GetDeniedResponse().GetStatus().GetCode(); status != 0 {
			v.status = int(status)
		}
		v.why = mutate(v.client, res.GetDeniedResponse().GetHeaders(), nil)
	} else {
		ok := res.GetOkResponse()
		v.kind, v.upstream = "allowed", sent.Clone()
		if v.upstream == nil {
			v.upstream = http.Header{}
		}
		v.why = mutate(v.upstream, ok.GetHeaders(), ok.GetHeadersToRemove()) + mutate(v.client, ok.GetResponseHeadersToAdd(), nil)
	}
	if v.why != "" {
		return verdict{kind: "error", why: v.why}
	}
	return v
}

// mutate sets, then appends, then removes, as Envoy does, and says what is wrong.
func mutate(header http.Header, options []*corev3.HeaderValueOption, remove []string) string {
	var appended []*corev3.HeaderValue
	for _, option := range options {
		name, value := option.GetHeader().GetKey(), option.GetHeader().GetValue()
		switch {
		case name != strings.ToLower(name), !httpguts.ValidHeaderFieldName(name), !httpguts.ValidHeaderFieldValue(value):
			return "not a header: " + name
		case value == "": // dropped
			continue
		}
		// The old field goes before the new one, whose 0 is to append.
		action := option.GetAppendAction()
		if old := option.GetAppend(); old != nil { //nolint:staticcheck // Envoy still reads it
			if action = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD; old.GetValue() {
				action = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
			}
		}
		switch action {
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			drop(header, name)
			header.Set(name, value)
		case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			appended = append(appended, option.GetHeader())
		default:
			return "another action than this judge knows"
		}
	}
	for _, h := range appended {
		header.Add(h.GetKey(), h.GetValue())
	}
	for _, name := range remove {
		if name == "" || !httpguts.ValidHeaderFieldName(name) {
			return "not a header to remove: " + name
		}
		if name != "host" && !strings.HasPrefix(name, ":") {
			drop(header, name)
		}
	}
	return ""
}

// drop removes a header, however its name is spelled in the map.
func drop(header http.Header, name string) {
	for spelled := range header {
		if textproto.CanonicalMIMEHeaderKey(spelled) == textproto.CanonicalMIMEHeaderKey(name) {
			delete(header, spelled)
		}
	}
}
