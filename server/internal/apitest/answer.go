package apitest

import (
	"net/http"
	"testing"
	"time"
)

// Answer is a response that has been read.
type Answer struct {
	Status int
	Header http.Header
	Raw    []byte
	Body   Object // nil when the answer is no JSON object
}

// Want fails the test when the status is another one.
func (a Answer) Want(t testing.TB, status int) Answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("status %d, want %d: %s", a.Status, status, a.Raw)
	}
	return a
}

// At is the value at a path of names, nil when it is not there.
func (a Answer) At(path ...string) any { return Dig(a.Body, path...) }

// Dig is the value at a path of names in a JSON value, nil when it is not there.
func Dig(value any, path ...string) any {
	for _, name := range path {
		m, _ := value.(Object)
		value = m[name]
	}
	return value
}

// Str is the text at a path, "" when it is not there.
func (a Answer) Str(path ...string) string {
	s, _ := a.At(path...).(string)
	return s
}

// List are the objects of the list at a path.
func (a Answer) List(path ...string) []Object {
	values, _ := a.At(path...).([]any)
	list := make([]Object, len(values))
	for i, v := range values {
		list[i], _ = v.(Object)
	}
	return list
}

// Detail is the detail of an error of this type, nil when it has none.
func (a Answer) Detail(kind string) Object {
	for _, d := range a.List("details") {
		if d["type"] == kind {
			debug, _ := d["debug"].(Object)
			return debug
		}
	}
	return nil
}

// Reason is the reason in an error's google.rpc.ErrorInfo.
func (a Answer) Reason() string {
	reason, _ := a.Detail("google.rpc.ErrorInfo")["reason"].(string)
	return reason
}

// Eventually polls until done, and fails the test when that takes too long.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(Timeout); !done(); {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("%s: not within %s", what, Timeout)
		}
	}
}
