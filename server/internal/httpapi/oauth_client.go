package httpapi

import (
	"encoding/base64"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
)

// form is the parameters that have a value: one without is as good as left out
// (RFC 6749 §3.2).
type form map[string]string

// readForm reads a form-encoded body, and nothing from the address, which ends
// up in logs. A parameter that is there twice is refused (RFC 6749 §3.2).
func readForm(r *http.Request) (form, error) {
	if r.Method != http.MethodPost {
		return nil, &oauthError{status: http.StatusMethodNotAllowed, Code: "invalid_request", Description: "the request must be a POST", allow: http.MethodPost}
	}
	if r.URL.RawQuery != "" {
		return nil, badForm("parameters belong in the body; leave the query out")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" ||
		len(r.Header.Values("Content-Type")) > 1 {
		return nil, badForm("the body must be Content-Type: application/x-www-form-urlencoded")
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, badForm("the body must not be compressed")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBody))
	if err != nil {
		return nil, badForm("the body cannot be read")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, badForm("the body is not form-encoded")
	}
	f := form{}
	for name, all := range values {
		switch {
		case len(all) > 1:
			return nil, badForm("a parameter is there twice")
		case !utf8.ValidString(name) || !utf8.ValidString(all[0]):
			return nil, badForm("the parameters must be UTF-8")
		case all[0] != "":
			f[name] = all[0]
		}
	}
	return f, nil
}

// token is the token that introspection and revocation are about.
func (f form) token() (string, error) {
	switch token := f["token"]; {
	case token == "":
		return "", badForm("token is missing")
	case len(token) > jose.MaxTokenSize:
		return "", badForm("token is over %d bytes", jose.MaxTokenSize)
	default:
		return token, nil
	}
}

// audience is the service that a token is asked for: as resource, the absolute
// URI of RFC 8707 §2, or as audience, any name (as in RFC 8693 §2.1). A token
// is for one: when both are there they must be the same.
func (f form) audience() (string, error) {
	resource, audience := f["resource"], f["audience"]
	if resource == "" {
		return audience, nil
	}
	u, err := url.Parse(resource)
	switch {
	case err != nil || !u.IsAbs() || strings.Contains(resource, "#"):
		return "", invalidTarget("resource must be an absolute URI without a fragment; for a plain name use audience")
	case audience != "" && audience != resource:
		return "", invalidTarget("a token is for one service; send resource or audience")
	}
	return resource, nil
}

// client is who calls.
type client struct {
	id         string          // client_id, if one was given
	credential auth.Credential // empty: none, or the public client
	bearer     bool            // it was in a bearer header
}

func (c client) known() bool { return c.credential != auth.Credential{} }

// readClient finds the one way in which the client authenticates (RFC 6749
// §2.3): Basic, client_id and client_secret in the body, or a bearer header
// (RFC 7662 §2.1). No way at all is the public client.
func readClient(header http.Header, f form) (client, error) {
	id, secret := f["client_id"], f["client_secret"]
	values := header.Values("Authorization")
	if len(values) == 0 {
		return newClient(id, secret)
	}
	if len(values) > 1 || secret != "" {
		return client{}, badForm("authenticate in one way only")
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	switch {
	case strings.EqualFold(scheme, "Bearer") && text != "" && !strings.ContainsAny(text, " \t,"):
		c := client{bearer: true, credential: auth.Credential{AccessToken: text}}
		if strings.HasPrefix(text, apikey.Prefix) {
			c.credential = auth.Credential{APIKey: text}
		}
		return c, nil
	case strings.EqualFold(scheme, "Basic"):
		basicID, basicSecret, ok := readBasic(text)
		if !ok {
			return client{}, invalidClient("the Authorization header is not Basic as RFC 6749 section 2.3.1 has it")
		}
		if id != "" && id != basicID {
			return client{}, invalidClient("client_id is not that of the Authorization header")
		}
		if basicID == "" {
			return client{}, invalidClient("client_id is missing in the Authorization header")
		}
		return newClient(basicID, basicSecret)
	default:
		return client{}, invalidClient("the Authorization header must be Basic or Bearer")
	}
}

func newClient(id, secret string) (client, error) {
	switch {
	case secret == "" && (id == "" || id == auth.PublicClient):
		return client{}, nil
	case secret == "":
		return client{}, invalidClient("client_secret is missing")
	case id == "":
		return client{}, invalidClient("client_id is missing")
	default:
		return client{id: id, credential: auth.Credential{APIKey: secret}}, nil
	}
}

// readBasic decodes a client's id and secret, each form-encoded by itself (RFC
// 6749 §2.3.1).
func readBasic(text string) (id, secret string, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", "", false
	}
	first, second, ok := strings.Cut(string(raw), ":")
	id, idErr := url.QueryUnescape(first)
	secret, secretErr := url.QueryUnescape(second)
	return id, secret, ok && idErr == nil && secretErr == nil && utf8.ValidString(id) && utf8.ValidString(secret)
}
