package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
)

// The paths of the health checks.
const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
)

// healthz says that the process runs, so that a restart would not help, and which
// version it is.
func healthz(version string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		writeStatus(w, http.StatusOK, map[string]string{"status": "ok", "version": version})
	}
}

// Dependency is something that serving needs.
type Dependency struct {
	Name     string
	Err      error // nil: it answers
	Optional bool  // the server is ready without it
}

// readyz says whether requests should be sent here, and what is missing.
func readyz(dependencies func(context.Context) []Dependency) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, status := map[string]string{"status": "ok"}, http.StatusOK
		for _, d := range dependencies(r.Context()) {
			answer[d.Name] = "ok"
			if d.Err != nil {
				answer[d.Name] = "down"
			}
			if d.Err != nil && !d.Optional {
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
