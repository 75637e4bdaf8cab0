package httpapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

const (
	tokenPath      = "/v1/oauth2/token"
	introspectPath = "/v1/oauth2/introspect"
	revokePath     = "/v1/oauth2/revoke"
	metadataPath   = "/.well-known/oauth-authorization-server"

	grantClient  = "client_credentials"
	grantRefresh = "refresh_token"
)

// oauth serves standard OAuth 2.0 clients: tokens (RFC 6749),
// introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC 8414). An
// API key is a client: its id is the client_id and the key the client_secret.
// People's sessions belong to the public client "tollgate".
type oauth struct {
	guard   *guard.Guard
	service *auth.Service
	log     *slog.Logger
}

func (o *oauth) register(mux *http.ServeMux, issuer string) {
	mux.HandleFunc(tokenPath, o.endpoint(o.token))
	mux.HandleFunc(introspectPath, o.endpoint(o.introspect))
	mux.HandleFunc(revokePath, o.endpoint(o.revoke))
	mux.HandleFunc("GET "+metadataPath, metadata(issuer))
	// RFC 8414 §3.1 puts the issuer's path behind the well-known one.
	mux.HandleFunc("GET "+metadataPath+"/", metadata(issuer))
}

// endpoint reads the form, answers with what serve returns as JSON, and gives
// errors the shape of RFC 6749 §5.2.
func (o *oauth) endpoint(serve func(context.Context, http.Header, client, form) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		keepErrors(w)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Pragma", "no-cache")
		f, err := readForm(r)
		var from client
		var answer any
		if err == nil {
			from, err = readClient(r.Header, f)
		}
		if err == nil {
			answer, err = serve(r.Context(), w.Header(), from, f)
		}
		if err != nil {
			o.refuse(w, r, err, from)
			return
		}
		if answer == nil {
			w.WriteHeader(http.StatusOK)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer) //nolint:errcheck // the caller hung up
	}
}

// admit passes the call through the guard as the client, or, under a public
// rule, without a caller.
func (o *oauth) admit(ctx context.Context, path string, rule decision.Rule, from client, response http.Header) (context.Context, error) {
	if rule.Public && from.known() {
		rule.Public, rule.AnyUser = false, true
	}
	ctx, err := o.guard.AdmitCredential(ctx, path, rule, from.credential, response)
	if err != nil {
		return ctx, err
	}
	if p := caller.From(ctx).Principal; from.id != "" && from.known() && p.APIKeyID != from.id {
		return ctx, invalidClient("client_id is not the id of the API key in client_secret")
	}
	return ctx, nil
}

// tokenAnswer is RFC 6749 §5.1.
type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
}

// token is the token endpoint (RFC 6749 §3.2).
func (o *oauth) token(ctx context.Context, response http.Header, from client, f form) (any, error) {
	if from.bearer {
		return nil, invalidClient("authenticate as a client: with Basic, or with client_id and client_secret")
	}
	switch f["grant_type"] {
	case "":
		return nil, badForm("grant_type is missing")
	case grantClient:
		ctx, err := o.admit(ctx, tokenPath, decision.Rule{AnyUser: true, Action: contract.ActionToken}, from, response)
		if err != nil {
			return nil, err
		}
		audience, err := f.audience()
		if err != nil {
			return nil, err
		}
		g, err := o.service.ClientToken(ctx, f["scope"], audience)
		if err != nil {
			return nil, err
		}
		return tokenAnswer{AccessToken: g.AccessToken, TokenType: "Bearer", ExpiresIn: int64(g.ExpiresIn.Seconds()), Scope: g.Scope}, nil
	case grantRefresh:
		switch {
		case f["refresh_token"] == "":
			return nil, badForm("refresh_token is missing")
		case f["scope"] != "": // before the token is spent
			return nil, &oauthError{status: http.StatusBadRequest, Code: "invalid_scope", Description: "sessions are not narrowed; leave scope out"}
		}
		audience, err := f.audience()
		if err != nil {
			return nil, err
		}
		// The action is that of the Refresh RPC: limits count both.
		ctx, err := o.admit(ctx, tokenPath, decision.Rule{Public: true, Action: "tollgate:refresh"}, from, response)
		if err != nil {
			return nil, err
		}
		g, err := o.service.Refresh(ctx, f["refresh_token"], audience)
		if err != nil {
			return nil, err
		}
		return tokenAnswer{
			AccessToken: g.AccessToken, TokenType: "Bearer", ExpiresIn: int64(g.ExpiresIn.Seconds()), RefreshToken: g.RefreshToken,
		}, nil
	default:
		return nil, &oauthError{
			status: http.StatusBadRequest, Code: "unsupported_grant_type",
			Description: "grant_type must be " + grantClient + " or " + grantRefresh,
		}
	}
}

// introspection is RFC 7662 §2.2.
type introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Username  string `json:"username,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	ExpiresAt int64  `json:"exp,omitempty"`
	IssuedAt  int64  `json:"iat,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	ID        string `json:"jti,omitempty"`
	SessionID string `json:"sid,omitempty"`

	AMR      []string `json:"amr,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"`
}

// introspect is the introspection endpoint. A token's form says what it is, so
// that token_type_hint, which may be wrong, is not needed.
func (o *oauth) introspect(ctx context.Context, response http.Header, from client, f form) (any, error) {
	ctx, err := o.admit(ctx, introspectPath, decision.Rule{Permission: "tollgate:verify"}, from, response)
	if err != nil {
		return nil, err
	}
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	i, err := o.service.Introspect(ctx, token)
	if err != nil {
		return nil, err
	}
	return introspection{
		Active: i.Active, Scope: i.Scope, ClientID: i.ClientID, Username: i.Username, TokenType: i.TokenType,
		ExpiresAt: seconds(i.ExpiresAt), IssuedAt: seconds(i.IssuedAt), Subject: i.Subject,
		Audience: i.Audience, Issuer: i.Issuer, ID: i.ID, SessionID: i.SessionID,
		AMR: i.AMR, AuthTime: seconds(i.AuthTime),
	}, nil
}

// revoke is the revocation endpoint. A session's tokens belong to a public client,
// which has no secret: to have the token is enough. A client's own take that client.
func (o *oauth) revoke(ctx context.Context, response http.Header, from client, f form) (any, error) {
	ctx, err := o.admit(ctx, revokePath, decision.Rule{Public: true, Action: contract.ActionRevoke}, from, response)
	if err != nil {
		return nil, err
	}
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	return nil, o.service.RevokeToken(ctx, token)
}

// seconds is a NumericDate; 0 for the zero Time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// metadata serves what a client can find out by itself (RFC 8414 §2). The issuer
// is an absolute URL without a query.
func metadata(issuer string) http.HandlerFunc {
	own := ""
	if u, err := url.Parse(issuer); err == nil {
		own = strings.Trim(u.Path, "/")
	}
	base := strings.TrimRight(issuer, "/")
	methods := []string{"client_secret_basic", "client_secret_post", "none"}
	body, err := json.Marshal(map[string]any{
		"issuer":         issuer,
		"token_endpoint": base + tokenPath,
		"jwks_uri":       base + "/.well-known/jwks.json",
		// There is no authorization endpoint, but the member is required.
		"response_types_supported":                      []string{},
		"grant_types_supported":                         []string{grantClient, grantRefresh},
		"token_endpoint_auth_methods_supported":         methods,
		"revocation_endpoint":                           base + revokePath,
		"revocation_endpoint_auth_methods_supported":    methods,
		"introspection_endpoint":                        base + introspectPath,
		"introspection_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "Bearer"},
	})
	if err != nil {
		panic(err) // it is made of strings
	}
	return func(w http.ResponseWriter, r *http.Request) {
		path := strings.Trim(strings.TrimPrefix(r.URL.Path, metadataPath), "/")
		if path != "" && path != own {
			writePlain(w, r, http.StatusNotFound, caller.From(r.Context()).RequestID)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=300")
		w.Header().Set("Content-Type", "application/json")
		w.Write(body) //nolint:errcheck // the caller hung up
	}
}
