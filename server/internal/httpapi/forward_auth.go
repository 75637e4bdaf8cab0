package httpapi

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// forwardAuthPath is where proxies ask, with any method: nginx's auth_request,
// Caddy's forward_auth, Traefik's ForwardAuth, HAProxy, Envoy's ext_authz over HTTP.
const forwardAuthPath = "/v1/forward-auth"

// isForwardAuth says whether a proxy asks. Everything behind the path belongs to
// its client.
func isForwardAuth(r *http.Request) bool {
	return r.URL.Path == forwardAuthPath || strings.HasPrefix(r.URL.Path, forwardAuthPath+"/")
}

// forwardAuth answers a proxy: 200 when its client's request may go on, with the
// client's identity in headers; otherwise the status that the client should get.
type forwardAuth struct {
	guard   *guard.Guard
	enforce *enforce.Service
	trusted []netip.Prefix
}

func (f *forwardAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	keepErrors(w) // they are in the one shape
	from := caller.From(r.Context())
	question, err := readQuestion(r)
	if err == nil {
		err = f.answer(w, r, question)
	}
	if err == nil {
		return
	}
	refused := fault.Of(r.Context(), err)
	f.guard.Count(refused)
	status := refused.Kind.Status()
	w.Header().Set(enforce.StatusHeader, strconv.Itoa(status))
	if question.deny && status != http.StatusUnauthorized {
		status = http.StatusForbidden
	}
	writeStatusFault(w, status, refused, from.RequestID)
}

func (f *forwardAuth) answer(w http.ResponseWriter, r *http.Request, q question) error {
	// The limits of the proxy's own account are not for its clients to see.
	ctx, err := f.guard.AdmitProxy(r.Context(), forwardAuthPath, r.Header, http.Header{})
	if err != nil {
		return err
	}
	asked, err := q.request(r)
	if err != nil {
		return err
	}
	from := caller.From(ctx)
	asked.Source, asked.UserAgent, asked.RequestID = decision.SourceForwardAuth, from.UserAgent, from.RequestID
	asked.IP = caller.LastHop(r.Header.Values("X-Forwarded-For"), caller.PeerIP(r), f.trusted, true) // the peer has proved to be a proxy
	answer, err := f.enforce.Decide(ctx, asked)
	guard.WriteLimits(w.Header(), answer.Limits)
	if err != nil {
		return err
	}
	headers, err := f.enforce.Identity(answer, q.Flavor)
	if err != nil {
		return err
	}
	for _, h := range headers {
		w.Header().Set(h.Name, h.Value)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// question is what the proxy's configuration has put into the address.
type question struct {
	enforce.Question
	deny bool // refusals are 401 or 403, for nginx, which makes 500 of others
}

// queryForm is how the query says it.
var queryForm = enforce.Form{In: "the query", Others: []string{"deny"}}

// readQuestion reads the query. Behind the path it is the client's, and says
// nothing.
func readQuestion(r *http.Request) (q question, err error) {
	if r.URL.Path != forwardAuthPath {
		return question{}, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return question{}, enforce.BadRequest("the query cannot be read; write it as ?permission=orders:read&resource=orders")
	}
	if values.Has("deny") { // first, so that nginx passes on what else is wrong
		if q.deny = values.Get("deny") == "403"; !q.deny {
			return q, enforce.BadRequest("deny must be 403, or left out")
		}
	}
	settings := make(map[string]string, len(values))
	for name, all := range values {
		if len(all) > 1 {
			return q, enforce.BadRequest("the query has a parameter twice")
		}
		settings[name] = all[0]
	}
	q.Question, err = queryForm.Read(settings)
	return q, err
}

// request is the client's request, as the proxy describes it.
func (q question) request(r *http.Request) (enforce.Request, error) {
	asked := enforce.Request{
		Credential: enforce.CredentialOf(r.Header.Values("Authorization"), r.Header.Values("X-Api-Key")),
		Needs:      q.Needs, Audience: q.Audience,
	}
	d, err := describe(r)
	if err == nil && q.Needs == nil {
		err = d.complete()
	}
	asked.Method, asked.Host, asked.Path = d.method.value, d.host.value, d.path.value
	return asked, err
}

// described is a request as several headers may describe it.
type described struct{ method, host, path fact }

// fact is one thing that headers say: all that say it must agree.
type fact struct {
	value string
	known bool
}

func (f *fact) is(value string) bool {
	agreed := !f.known || f.value == value
	f.value, f.known = value, true
	return agreed
}

// describe reads what the client asks for: X-Forwarded-Method, -Host and -Uri
// (Caddy, Traefik), X-Original-Method, -URL and -URI (nginx), or what is behind the
// path (Envoy). A client can add what its proxy does not overwrite, so nothing is
// preferred: what disagrees is refused.
func describe(r *http.Request) (d described, err error) {
	if rest, ok := strings.CutPrefix(r.RequestURI, forwardAuthPath); ok && strings.HasPrefix(rest, "/") {
		d.method.is(r.Method)
		d.host.is(r.Host)
		d.path.is(withoutQuery(rest))
	} else if r.URL.Path != forwardAuthPath {
		return d, enforce.BadRequest("the path must start with %s as it is, without escapes", forwardAuthPath)
	}
	for _, source := range []struct {
		header string
		read   func(value string) bool // false: it disagrees, or cannot be read
	}{
		{"X-Forwarded-Method", d.method.is},
		{"X-Forwarded-Uri", func(v string) bool { return d.path.is(withoutQuery(v)) }},
		{"X-Original-Method", d.method.is},
		{"X-Original-Uri", func(v string) bool { return d.path.is(withoutQuery(v)) }},
		{"X-Original-Url", d.readURL},
	} {
		switch values := r.Header.Values(source.header); {
		case len(values) > 1:
			return d, enforce.BadRequest("%s is there %d times: have the proxy overwrite what its client sent", source.header, len(values))
		case len(values) == 1 && values[0] != "" && !source.read(values[0]):
			return d, enforce.BadRequest("%s cannot be read or says something else than another header or the path: have the proxy overwrite what its client sent", source.header)
		}
	}
	// Only with the URI of the same proxy: nginx leaves what its client sent.
	if hosts := r.Header.Values("X-Forwarded-Host"); r.Header.Get("X-Forwarded-Uri") != "" && len(hosts) > 0 {
		if len(hosts) > 1 || !d.host.is(hosts[0]) {
			return d, enforce.BadRequest("X-Forwarded-Host is there more than once or says another host than another header or the path")
		}
	}
	return d, nil
}

// complete is the error of what says too little for the route table.
func (d described) complete() error {
	switch {
	case !d.path.known:
		return enforce.BadRequest("nothing says what the request needs: give ?permission=…, or send X-Forwarded-Method, X-Forwarded-Host and X-Forwarded-Uri, or X-Original-Method and X-Original-URL, for the route table")
	case !d.method.known:
		return enforce.BadRequest("nothing says the request's method: send X-Forwarded-Method or X-Original-Method")
	}
	return nil
}

// readURL reads the absolute URL of X-Original-URL. The path stays as it is sent.
func (d *described) readURL(value string) bool {
	_, rest, ok := strings.Cut(value, "://")
	at := strings.IndexByte(rest, '/')
	if !ok || at <= 0 {
		return false
	}
	return d.host.is(rest[:at]) && d.path.is(withoutQuery(rest[at:]))
}

func withoutQuery(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

// misusedAuthorize is the fault of a call of Authorize that a proxy makes as if it
// were forward auth; nil for others. A refusal of Authorize's is an answer, with the
// status 200: such a proxy would let everybody pass.
func misusedAuthorize(r *http.Request) *fault.Error {
	if r.URL.Path != "/v1/authorize" && r.URL.Path != tollgatev1connect.RolesServiceAuthorizeProcedure {
		return nil
	}
	asks := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !asks && r.ContentLength == 0 {
		asks = slices.ContainsFunc([]string{"X-Original-Uri", "X-Original-Url", "X-Forwarded-Uri"}, func(name string) bool { return r.Header.Get(name) != "" })
	}
	if !asks {
		return nil
	}
	return fault.New(fault.Invalid, "USE_FORWARD_AUTH",
		"a refusal here is an answer with the status 200, which lets everybody pass; a proxy asks %s instead", forwardAuthPath)
}
