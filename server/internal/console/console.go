// Package console serves the web console: its files, and the three handlers that keep
// the refresh token of its session in a cookie that no script can read.
package console

import (
	"context"
	"io/fs"
	"net/http"
	"slices"
	"strings"
)

const (
	// Root is where the console is.
	Root        = "/console"
	sessionPath = Root + "/session"
	filesPath   = Root + "/"
)

// Options are what the console needs.
type Options struct {
	Files  fs.FS        // index.html, and under assets files whose names hold a hash of their content
	RPC    http.Handler // AuthService, by Connect
	Seal   []byte       // the key that marks the console's own cookies
	Secure bool         // people reach this server by https, whatever the connection is
	// Revoke ends the session of a refresh token.
	Revoke func(ctx context.Context, response http.Header, token string) error
	// Refuse answers with an error in the API's shape.
	Refuse func(http.ResponseWriter, *http.Request, error)
	// Keep has a response go out as it is, though it is an error or a redirection.
	Keep func(http.ResponseWriter)
}

// Owns says whether a path is the console's.
func Owns(path string) bool { return path == Root || strings.HasPrefix(path, filesPath) }

// New makes the handler of everything under Root. It fails when the files have no
// index.html.
func New(o Options) (http.Handler, error) {
	files, err := load(o.Files)
	if err != nil {
		return nil, err
	}
	s := &session{Options: o}
	mux := http.NewServeMux()
	mux.Handle(sessionPath+"/login", only(s.login, http.MethodPost))
	mux.Handle(sessionPath+"/refresh", only(s.refresh, http.MethodPost))
	mux.Handle(sessionPath+"/logout", only(s.logout, http.MethodPost))
	mux.HandleFunc(sessionPath, http.NotFound)
	mux.HandleFunc(sessionPath+"/", http.NotFound)
	mux.Handle(filesPath, only(files.serve, http.MethodGet, http.MethodHead))
	mux.Handle(Root, only(func(w http.ResponseWriter, _ *http.Request) {
		o.Keep(w)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Location", filesPath)
		w.WriteHeader(http.StatusPermanentRedirect)
	}, http.MethodGet, http.MethodHead))
	return mux, nil
}

// only lets no other methods pass.
func only(serve http.HandlerFunc, methods ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			w.WriteHeader(http.StatusMethodNotAllowed) // the middleware says it in the one shape
			return
		}
		serve(w, r)
	})
}
