package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/tollgatehq/tollgate/internal/jose"
)

// The paths of the health checks.
const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
)

// jwks serves the public keys that verify our access tokens (RFC 7517 §5).
func jwks(current func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		set := current()
		sum := sha256.Sum256(set)
		tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
		h := w.Header()
		h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(jose.KeySetMaxAge.Seconds())))
		h.Set("Etag", tag)
		if strings.Contains(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", "application/jwk-set+json")
		w.Write(set) //nolint:errcheck // the caller hung up
	}
}

// healthz says that the process runs: a restart would not help.
func healthz(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusOK, map[string]string{"status": "ok"})
}

// Need is something that serving depends on.
type Need struct {
	Name     string
	Err      error // nil: it is there
	Optional bool  // without it we serve less well, but we serve
}

// readyz says whether requests should be sent here, and what is missing.
func readyz(needs func(context.Context) []Need) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, status := map[string]string{"status": "ok"}, http.StatusOK
		for _, need := range needs(r.Context()) {
			answer[need.Name] = "ok"
			if need.Err != nil {
				answer[need.Name] = "down"
			}
			if need.Err != nil && !need.Optional {
				answer["status"], status = "unavailable", http.StatusServiceUnavailable
				w.Header().Set("Retry-After", "1")
			}
		}
		// Also when it is an error, this is not the shape of an API error: it is
		// for probes, which read the status, and for people.
		keepErrors(w)
		writeStatus(w, status, answer)
	}
}

func writeStatus(w http.ResponseWriter, status int, answer map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer) //nolint:errcheck // the caller hung up
}
