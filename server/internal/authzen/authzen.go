// Package authzen answers policy enforcement points by the OpenID AuthZEN
// Authorization API 1.0 (https://openid.net/specs/authorization-api-1_0.html): the
// same decisions as Authorize, under names and rules of its own.
package authzen

import (
	"context"
	"encoding/json"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// The paths, which are those that the metadata names.
const (
	prefix          = "/access/v1/"
	evaluationPath  = prefix + "evaluation"
	evaluationsPath = prefix + "evaluations"
	subjectsPath    = prefix + "search/subject"
	resourcesPath   = prefix + "search/resource"
	actionsPath     = prefix + "search/action"
	metadataPath    = "/.well-known/authzen-configuration"
)

// What the asking service needs. A search says who may do what, of everybody.
var (
	mayDecide = decision.Rule{Permission: "tollgate:authorize"}
	maySearch = decision.Rule{Permission: "tollgate:explain"}
)

// Options are what a Handler needs.
type Options struct {
	Guard     *guard.Guard
	Decisions *decision.Service

	// FindUser finds the id of the user of an id or a name, in any form of the name.
	FindUser  func(ctx context.Context, idOrName string) (id string, found bool, err error)
	Resources decision.ListResources
	Pages     page.Tokens
	// Sign makes a JWT of claims, a JSON object.
	Sign func(claims []byte) (string, error)

	Issuer string // an absolute URL without a query: what the metadata calls the decision point
	Clock  clock.Clock
	Log    *slog.Logger
}

// Handler serves the API.
type Handler struct {
	Options
	metadata *signedMetadata
}

// New makes a Handler.
func New(o Options) *Handler {
	return &Handler{o, newSignedMetadata(o)}
}

// Register adds the paths to mux. own marks an answer whose errors keep the form that
// they have here.
func (h *Handler) Register(mux *http.ServeMux, own func(http.ResponseWriter)) {
	for path, e := range map[string]endpoint{
		evaluationPath:  {mayDecide, h.evaluation},
		evaluationsPath: {mayDecide, h.evaluations},
		subjectsPath:    {maySearch, h.subjects},
		resourcesPath:   {maySearch, h.resources},
		actionsPath:     {maySearch, h.actions},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			own(w)
			if err := h.serve(w, r, e); err != nil {
				h.refuse(w, r, err)
			}
		})
	}
	for _, path := range []string{metadataPath, metadataPath + "/"} { // the issuer's path comes behind it
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := h.metadata.serve(w, r); err != nil {
				own(w)
				h.refuse(w, r, err)
			}
		})
	}
}

// OwnsRequestID says whether answers at a path bear the request id just as it was sent
// (§10.1.3), as far as a header can.
func OwnsRequestID(path string) bool {
	return strings.HasPrefix(path, prefix) || path == metadataPath || strings.HasPrefix(path, metadataPath+"/")
}

// endpoint is one POST of the API.
type endpoint struct {
	rule   decision.Rule
	answer func(ctx context.Context, body object) (any, error)
}

// serve admits the asking service before it reads what it asks.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, e endpoint) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return &statusError{http.StatusMethodNotAllowed, "send a POST"}
	}
	credential, err := guard.Bearer(r.Header)
	if err != nil {
		return err
	}
	ctx, err := h.Guard.AdmitCredential(r.Context(), r.URL.Path, e.rule, credential, w.Header())
	if err != nil {
		return err
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" || len(r.Header.Values("Content-Type")) > 1 {
		return &statusError{http.StatusUnsupportedMediaType, "send the body as Content-Type: application/json"}
	}
	body, err := readBody(r.Body)
	if err != nil {
		return err
	}
	answer, err := e.answer(ctx, body)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, answer)
}

// statusError is an error with a status that no fault has.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// refuse answers with an error: its message as a JSON text (§10.1.2). The log gets the
// cause of what is our mistake.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := err.(*statusError); ok { //nolint:errorlint // it is made here and not wrapped
		write(w, e.status, e.message) //nolint:errcheck // a text always encodes
		return
	}
	f := fault.Of(r.Context(), err)
	h.Guard.Count(f)
	if f.Kind == fault.Internal {
		h.Log.ErrorContext(r.Context(), "call failed", "path", r.URL.Path, "error", f.Cause, "request_id", caller.From(r.Context()).RequestID)
	}
	for name, values := range fault.Connect(f, "").Meta() { // WWW-Authenticate, Retry-After
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	write(w, f.Kind.Status(), f.Message) //nolint:errcheck // a text always encodes
}

// write answers with JSON.
func write(w http.ResponseWriter, status int, answer any) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(text, '\n')) //nolint:errcheck // the caller hung up
	return nil
}
