package authzen

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const (
	// metadataKept is for how long one signature serves, so that asking, which takes
	// no credential, costs none.
	metadataKept = time.Minute
	// metadataLife is how long the signed form is good for. A key is published for
	// longer after it has signed.
	metadataLife = 10 * time.Minute
)

// description is what an enforcement point can find out by itself (§9.1).
type description struct {
	DecisionPoint string `json:"policy_decision_point"`
	Evaluation    string `json:"access_evaluation_endpoint"`
	Evaluations   string `json:"access_evaluations_endpoint"`
	Subjects      string `json:"search_subject_endpoint"`
	Resources     string `json:"search_resource_endpoint"`
	Actions       string `json:"search_action_endpoint"`
	Signed        string `json:"signed_metadata,omitempty"`
}

// claims are a description that is signed (§9.1.3).
type claims struct {
	Issuer    string `json:"iss"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	description
}

// signedMetadata serves the description.
type signedMetadata struct {
	description
	path  string // the issuer's, without slashes around
	sign  func(claims []byte) (string, error)
	clock clock.Clock

	mu   sync.Mutex
	body []byte
	made time.Time // zero: not yet
}

func newSignedMetadata(o Options) *signedMetadata {
	base := strings.TrimRight(o.Issuer, "/")
	m := &signedMetadata{sign: o.Sign, clock: o.Clock, description: description{
		DecisionPoint: o.Issuer, Evaluation: base + evaluationPath, Evaluations: base + evaluationsPath,
		Subjects: base + subjectsPath, Resources: base + resourcesPath, Actions: base + actionsPath,
	}}
	if u, err := url.Parse(o.Issuer); err == nil {
		m.path = strings.Trim(u.Path, "/")
	}
	return m
}

func (m *signedMetadata) serve(w http.ResponseWriter, r *http.Request) error {
	if path := strings.Trim(strings.TrimPrefix(r.URL.Path, metadataPath), "/"); path != "" && path != m.path {
		return &statusError{http.StatusNotFound, "there is no decision point of this path here"}
	}
	body, err := m.current()
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("Content-Type", "application/json")
	w.Write(body) //nolint:errcheck // the caller hung up
	return nil
}

// current is the answer, signed within the last minute.
func (m *signedMetadata) current() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	if age := now.Sub(m.made); !m.made.IsZero() && age >= 0 && age < metadataKept {
		return m.body, nil
	}
	whole := m.description
	text, err := json.Marshal(claims{m.DecisionPoint, now.Unix(), now.Add(metadataLife).Unix(), whole})
	if err != nil {
		return nil, err
	}
	if whole.Signed, err = m.sign(text); err != nil {
		return nil, err
	}
	body, err := json.Marshal(whole)
	if err != nil {
		return nil, err
	}
	m.body, m.made = body, now
	return body, nil
}
