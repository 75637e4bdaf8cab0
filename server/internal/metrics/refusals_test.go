package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// What a caller sends never becomes a label.
func TestRefusalsHaveAClosedSetOfReasons(t *testing.T) {
	m := New()
	m.Refused(RefusedBusy)
	m.Refused(RefusedBusy)
	m.Refused("whatever a caller sends")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`tollgate_refused_total{reason="busy"} 2`,
		`tollgate_refused_total{reason="other"} 1`,
		`tollgate_refused_total{reason="overloaded"} 0`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	if strings.Contains(w.Body.String(), "whatever") {
		t.Error("a reason that nobody foresaw became a label")
	}
}
