package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// session keeps the console's session. Login and refresh are the RPCs, called in this
// process: what guards, counts, bounds and records those does so here.
type session struct{ Options }

const (
	loginRPC   = "/tollgate.v1.AuthService/Login"
	refreshRPC = "/tollgate.v1.AuthService/Refresh"
	logoutRPC  = "/tollgate.v1.AuthService/Logout"

	// lostAnswer is how long the cookie that was replaced last is still good, until the
	// one in its place is used: a page that is loaded again may have sent the cookie
	// before the browser took the answer in. It holds for what the console gave out, and
	// a use of both is still found (see auth.Refresh).
	lostAnswer = 10 * time.Second
)

func (s *session) login(w http.ResponseWriter, r *http.Request) {
	body, ok := s.admit(w, r)
	if !ok {
		return
	}
	s.pass(w, r, s.call(w, r, loginRPC, body, ""))
}

func (s *session) refresh(w http.ResponseWriter, r *http.Request) {
	sent, ok := s.admit(w, r)
	if !ok {
		return
	}
	if text := string(bytes.TrimSpace(sent)); text != "" && text != "{}" {
		s.Refuse(w, r, fault.New(fault.Invalid, "BAD_REQUEST", "send no body, or {}: the refresh token is in the cookie"))
		return
	}
	token, ours := s.kept(r)
	if token == "" { // nobody has tried anything: it is no failed attempt
		s.forget(w, r)
		s.Refuse(w, r, fault.New(fault.Unauthenticated, "BAD_REFRESH_TOKEN", "this browser is not signed in to the console; sign in"))
		return
	}
	body, err := json.Marshal(map[string]string{"refreshToken": token})
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	if ours {
		r = r.WithContext(auth.WithRetry(r.Context(), lostAnswer))
	}
	answer := s.call(w, r, refreshRPC, body, "")
	if answer.status == http.StatusUnauthorized || answer.status == http.StatusBadRequest {
		s.forget(w, r)
	}
	s.pass(w, r, answer)
}

// logout ends the session, and has the browser forget it even if it cannot be ended now.
// With an access token it is the RPC, which can end all of the user's sessions; without a
// good one it ends the session of the cookie.
func (s *session) logout(w http.ResponseWriter, r *http.Request) {
	body, ok := s.admit(w, r)
	if !ok {
		return
	}
	token, _ := s.kept(r)
	s.forget(w, r)
	if credential := r.Header.Get("Authorization"); credential != "" {
		answer := s.call(w, r, logoutRPC, body, credential)
		if answer.status != http.StatusUnauthorized || token == "" {
			write(w, answer.status, answer.body.Bytes())
			return
		}
		w.Header().Del("WWW-Authenticate")
	}
	if token != "" {
		if err := s.Revoke(r.Context(), w.Header(), token); err != nil {
			s.Refuse(w, r, err)
			return
		}
	}
	write(w, http.StatusOK, []byte("{}"))
}

// admit refuses what no page of the console sends, and reads the body, which is JSON if
// there is one.
func (s *session) admit(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	if err := sameOrigin(r); err != nil {
		s.Refuse(w, r, err)
		return nil, false
	}
	body, err := io.ReadAll(r.Body) // the middleware has bounded it
	if err != nil {
		s.Refuse(w, r, err)
		return nil, false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if len(body) > 0 && (err != nil || kind != "application/json") {
		w.WriteHeader(http.StatusUnsupportedMediaType) // the middleware says it in the one shape
		return nil, false
	}
	return body, true
}

// call calls an RPC with a credential, or without if it is empty. The headers of its
// answer are w's.
func (s *session) call(w http.ResponseWriter, r *http.Request, procedure string, body []byte, credential string) *recorder {
	to := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: procedure}, Host: r.Host, RemoteAddr: r.RemoteAddr,
		Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": r.Header.Values("User-Agent")},
		Body:   io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(r.Context())
	if credential != "" {
		to.Header.Set("Authorization", credential)
	}
	answer := &recorder{header: w.Header()}
	s.RPC.ServeHTTP(answer, to)
	return answer
}

// pass passes an answer on, but for the refresh token, which goes into the cookie.
func (s *session) pass(w http.ResponseWriter, r *http.Request, answer *recorder) {
	if answer.status != http.StatusOK {
		write(w, answer.status, answer.body.Bytes())
		return
	}
	token, rest, err := takeToken(answer.body.Bytes())
	if err != nil {
		s.Refuse(w, r, err)
		return
	}
	s.keep(w, r, token)
	write(w, http.StatusOK, rest)
}

// takeToken takes the refresh token out of an answer. No answer with one goes out.
func takeToken(answer []byte) (token string, rest []byte, err error) {
	const member = "refreshToken"
	var all map[string]json.RawMessage
	if err := json.Unmarshal(answer, &all); err != nil {
		return "", nil, err
	}
	if err := json.Unmarshal(all[member], &token); err != nil {
		return "", nil, err
	}
	delete(all, member)
	rest, err = json.Marshal(all)
	switch {
	case err != nil:
		return "", nil, err
	case token == "" || bytes.Contains(rest, []byte(token)):
		return "", nil, errors.New("the answer has its refresh token where none is expected")
	}
	return token, rest, nil
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the caller hung up
}

// sameOrigin refuses what does not come from a page of this origin. Every browser says
// so, and no page can say it falsely (https://www.w3.org/TR/fetch-metadata/); without
// https they say it only to loopback addresses.
func sameOrigin(r *http.Request) error {
	if values := r.Header.Values("Sec-Fetch-Site"); len(values) != 1 || values[0] != "same-origin" {
		return fault.New(fault.Denied, "CROSS_SITE",
			"only the console's own pages may call this, in a current browser, over https or at a loopback address; programs use the API: POST /v1/auth/login")
	}
	return nil
}

// recorder takes in an RPC's answer. Its headers go out with ours.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorder) Header() http.Header { return a.header }

func (a *recorder) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *recorder) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
