package tollgate

import (
	"net/http"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/jose"
)

// keyPrefix is what API keys start with, and access tokens do not.
const keyPrefix = "tg_"

// malformed stands for a credential that is no single token: it is invalid, not
// missing, and is never sent to Tollgate.
const malformed = ","

type kind uint8

const (
	notCredential kind = iota
	accessToken
	apiKey
)

// kindOf checks the form only: the alphabet of RFC 6750 §2.1 and the lengths that
// Tollgate accepts.
func kindOf(credential string) kind {
	longest, found := jose.MaxTokenSize, accessToken
	if strings.HasPrefix(credential, keyPrefix) {
		longest, found = 256, apiKey
	}
	body := strings.TrimRight(credential, "=")
	if body == "" || len(credential) > longest {
		return notCredential
	}
	for _, r := range []byte(body) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.IndexByte("-._~+/", r) >= 0:
		default:
			return notCredential
		}
	}
	return found
}

// bearer returns the credential of a request. No Authorization header, or one
// with another scheme, is no credential (RFC 6750 §3.1); two headers, or Bearer
// without a token, are a bad one.
func bearer(header http.Header) string {
	values := header.Values("Authorization")
	switch {
	case len(values) == 0:
		return ""
	case len(values) > 1:
		return malformed
	}
	scheme, credential, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	if credential = strings.Trim(credential, " "); credential == "" {
		return malformed
	}
	return credential
}

// setCredential sets the credential's field of to; ok is false for a malformed
// one.
func (r AuthorizeRequest) setCredential(to *tollgatev1.AuthorizeRequest) (ok bool) {
	switch {
	case r.UserID != "":
		to.Credential = &tollgatev1.AuthorizeRequest_UserId{UserId: r.UserID}
	case r.Credential == "":
	default:
		switch kindOf(r.Credential) {
		case accessToken:
			to.Credential = &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: r.Credential}
		case apiKey:
			to.Credential = &tollgatev1.AuthorizeRequest_ApiKey{ApiKey: r.Credential}
		default:
			return false
		}
	}
	return true
}
