package tollgate

import "context"

// TokenSource gives the credential of each call, an access token or an API key;
// see [WithTokenSource]. A [Session] is one.
type TokenSource interface {
	// Token must be safe for concurrent use. The time it takes is part of the
	// call's timeout, so it should keep a credential while that is good.
	Token(ctx context.Context) (string, error)
}

// TokenSourceFunc is a function that is a [TokenSource].
type TokenSourceFunc func(ctx context.Context) (string, error)

// Token calls f.
func (f TokenSourceFunc) Token(ctx context.Context) (string, error) { return f(ctx) }

// staticToken is a credential that does not change.
type staticToken string

// Token implements TokenSource.
func (t staticToken) Token(context.Context) (string, error) { return string(t), nil }
