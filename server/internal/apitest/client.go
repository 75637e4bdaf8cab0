// Package apitest calls Tollgate's API in tests and reads its answers.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Timeout is how long a test waits for what should happen at once.
const Timeout = 20 * time.Second

// Object is a JSON object.
type Object = map[string]any

// Client calls the API with one credential.
type Client struct {
	URL   string
	Token string
	HTTP  *http.Client
}

// New makes a client with connections of its own and no credential.
func New(t testing.TB, url string) Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(transport.CloseIdleConnections)
	return Client{URL: url, HTTP: &http.Client{Transport: transport, Timeout: Timeout}}
}

// As is the same client with another credential.
func (c Client) As(token string) Client {
	c.Token = token
	return c
}

// Call makes a call; a body that is not a string is sent as its JSON.
func (c Client) Call(t testing.TB, method, path string, body any, header ...string) Answer {
	t.Helper()
	a, err := c.Try(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Try is Call for servers that may be gone. header is names and values in
// turns; they replace the usual ones.
func (c Client) Try(ctx context.Context, method, path string, body any, header ...string) (Answer, error) {
	var sent io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return Answer{}, err
		}
		sent = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, sent)
	if err != nil {
		return Answer{}, err
	}
	if sent != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Del(header[i])
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	a := Answer{Status: res.StatusCode, Header: res.Header}
	if a.Raw, err = io.ReadAll(res.Body); err != nil {
		return Answer{}, err
	}
	json.Unmarshal(a.Raw, &a.Body) //nolint:errcheck // not every answer is an object
	return a, nil
}

// Insist is Try until it succeeds, for a server that may be busy.
func (c Client) Insist(t testing.TB, method, path string, body any) Answer {
	for late := time.Now().Add(Timeout); ; {
		a, err := c.Try(context.Background(), method, path, body)
		if err == nil && a.Status == http.StatusOK {
			return a
		}
		if a.Status != http.StatusServiceUnavailable && err == nil || time.Now().After(late) {
			t.Errorf("%s %s: %d %s, %v", method, path, a.Status, a.Raw, err)
			return a
		}
	}
}

// Post makes a call that must succeed.
func (c Client) Post(t testing.TB, path string, body any) Answer {
	t.Helper()
	return c.Call(t, "POST", path, body).Want(t, http.StatusOK)
}

// Put makes a call that must succeed.
func (c Client) Put(t testing.TB, path string, body any) Answer {
	t.Helper()
	return c.Call(t, "PUT", path, body).Want(t, http.StatusOK)
}

// Patch makes a call that must succeed.
func (c Client) Patch(t testing.TB, path string, body any) Answer {
	t.Helper()
	return c.Call(t, "PATCH", path, body).Want(t, http.StatusOK)
}

// Get makes a call that must succeed.
func (c Client) Get(t testing.TB, path string) Answer {
	t.Helper()
	return c.Call(t, "GET", path, nil).Want(t, http.StatusOK)
}

// Login signs in.
func (c Client) Login(t testing.TB, name, password string) Answer {
	t.Helper()
	return c.As("").Post(t, "/v1/auth/login", Object{"username": name, "password": password})
}

// SignedIn is the client as a user.
func (c Client) SignedIn(t testing.TB, name, password string) Client {
	t.Helper()
	return c.As(c.Login(t, name, password).Str("accessToken"))
}

// ChangePassword gives a user who has just signed in another password.
func (c Client) ChangePassword(t testing.TB, login Answer, from, to string) {
	t.Helper()
	c.As(login.Str("accessToken")).Post(t, "/v1/users/"+login.Str("userId")+"/password", Object{"currentPassword": from, "newPassword": to})
}

// NewUser makes a user who holds these roles.
func (c Client) NewUser(t testing.TB, name, password string, roles ...string) (id string) {
	t.Helper()
	id = c.Post(t, "/v1/users", Object{"username": name, "password": password}).Str("user", "id")
	for _, role := range roles {
		c.Assign(t, role, id)
	}
	return id
}

// Assign gives a user a role.
func (c Client) Assign(t testing.TB, role, userID string) {
	t.Helper()
	c.Put(t, "/v1/roles/"+role+"/members/"+userID, Object{})
}

// NewService makes a service account that may verify and authorize, and
// returns an API key of it.
func (c Client) NewService(t testing.TB, name string) (key string) {
	t.Helper()
	id := c.Post(t, "/v1/users", Object{"username": name, "kind": "USER_KIND_SERVICE"}).Str("user", "id")
	c.Assign(t, "service", id)
	return c.Post(t, "/v1/api-keys", Object{"userId": id, "name": "for tests"}).Str("secret")
}

// All reads every page of a list; path ends in "?" or "&".
func (c Client) All(t testing.TB, path, list string) []Object {
	t.Helper()
	var found []Object
	for token := ""; ; {
		page := c.Get(t, path+"pageSize=100&pageToken="+token)
		found = append(found, page.List(list)...)
		if token = page.Str("nextPageToken"); token == "" {
			return found
		}
	}
}

// Events are the audit events that a query matches.
func (c Client) Events(t testing.TB, query string) []Object {
	t.Helper()
	return c.All(t, "/v1/audit/events?"+query+"&", "events")
}
