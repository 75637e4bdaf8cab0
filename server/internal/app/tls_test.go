package app

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

func TestTLSServesEveryProtocol(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, nil)
	one := s.client()
	one.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	for want, client := range map[string]*http.Client{"HTTP/2.0": s.client(), "HTTP/1.1": one} {
		res, err := get(client, s.url+"/healthz")
		backendtest.Must(t, err)
		if res.Proto != want || res.StatusCode != http.StatusOK || res.TLS.Version != tls.VersionTLS13 {
			t.Errorf("%s %d by TLS %x, want %s", res.Proto, res.StatusCode, res.TLS.Version, want)
		}
		if got := res.Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
			t.Errorf("%s: Strict-Transport-Security is %q", want, got)
		}
	}

	grpc := tollgatev1connect.NewAuthServiceClient(s.client(), s.url, connect.WithGRPC())
	grant, err := grpc.Login(t.Context(), &tollgatev1.LoginRequest{Username: FirstAdmin, Password: adminPassword})
	if err != nil || grant.GetAccessToken() == "" {
		t.Fatalf("gRPC over TLS: %v", err)
	}

	// Server-Sent Events arrive while the answer goes on.
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/v1/audit/events/watch", nil)
	backendtest.Must(t, err)
	req.Header.Set("Authorization", "Bearer "+grant.GetAccessToken())
	res, err := s.client().Do(req)
	backendtest.Must(t, err)
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != ": watching\n" {
		t.Errorf("the stream begins with %q, %v", line, err)
	}
}

func TestTLSRefusesOldVersionsAndClearText(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, nil)
	old := s.client()
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	if res, err := get(old, s.url+"/healthz"); err == nil {
		t.Errorf("TLS 1.2 is answered with %s", res.Status)
	}
	clear, err := get(http.DefaultClient, strings.Replace(s.url, "https:", "http:", 1)+"/healthz")
	if err == nil && clear.StatusCode != http.StatusBadRequest {
		t.Errorf("clear text is answered with %s", clear.Status)
	}
}

// TestSecurityHeaders: every answer says that it is no page, errors included;
// Strict-Transport-Security is not for clear text (RFC 6797 §7.2).
func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	for path, status := range map[string]int{"/healthz": 200, "/v1/auth/whoami": 401, "/nowhere": 404, "/v1/roles": 200} {
		token := i.admin
		if status == 401 {
			token = ""
		}
		a := i.call(t, "GET", path, token, nil).Want(t, status)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy":   "default-src 'none'; frame-ancestors 'none'",
			"Strict-Transport-Security": "",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

// TestTLSReload: a renewed certificate is taken up without a restart, and a
// broken one leaves the old in force. Connections go on through both.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, nil)
	stays := s.client()
	serial := func() int64 { // of a new connection
		t.Helper()
		res, err := get(s.client(), s.url+"/healthz")
		backendtest.Must(t, err)
		return res.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	want := func(number int64) {
		t.Helper()
		if got := serial(); got != number {
			t.Errorf("the certificate is number %d, want %d", got, number)
		}
		res, err := get(stays, s.url+"/healthz")
		if err != nil || res.TLS.PeerCertificates[0].SerialNumber.Int64() != 2 {
			t.Errorf("the connection from before: %v", err)
		}
	}
	want(2)

	_, cert, key := s.issue(x509.ExtKeyUsageServerAuth)
	s.write("cert.pem", cert)
	s.write("key.pem", key)
	want(2) // looked at a moment ago
	s.clock.Advance(tlsLookEvery)
	want(3)

	_, cert, key = s.issue(x509.ExtKeyUsageServerAuth)
	for _, broken := range [][]byte{cert, []byte("rubbish"), nil} { // the other's, no PEM, empty
		s.write("cert.pem", broken)
		warned := strings.Count(s.log.String(), "cannot be used")
		for range 3 {
			s.clock.Advance(tlsLookEvery)
			want(3)
		}
		if got := strings.Count(s.log.String(), "cannot be used") - warned; got != 1 {
			t.Errorf("%d warnings, want 1", got)
		}
	}
	s.write("cert.pem", cert)
	s.write("key.pem", key)
	s.clock.Advance(tlsLookEvery)
	want(4)
	if strings.Contains(s.log.String(), "PRIVATE") {
		t.Error("the log holds a key")
	}
}

// TestTLSReloadThroughALink: Kubernetes swaps a link to a folder; neither the
// names nor the folders' files change.
func TestTLSReloadThroughALink(t *testing.T) {
	t.Parallel()
	clk, fake := fakeClock(time.Now())
	s := &secured{authority: newAuthority(t), dir: t.TempDir(), clock: fake}
	link := func(folder string) {
		t.Helper()
		backendtest.Must(t, os.Mkdir(filepath.Join(s.dir, folder), 0o700))
		_, cert, key := s.issue(x509.ExtKeyUsageServerAuth)
		s.write(filepath.Join(folder, "tls.crt"), cert)
		s.write(filepath.Join(folder, "tls.key"), key)
		next := filepath.Join(s.dir, "..next")
		backendtest.Must(t, os.Symlink(folder, next))
		backendtest.Must(t, os.Rename(next, filepath.Join(s.dir, "..data")))
	}
	link("first")
	for _, name := range []string{"tls.crt", "tls.key"} {
		backendtest.Must(t, os.Symlink(filepath.Join("..data", name), filepath.Join(s.dir, name)))
	}
	files, err := openTLSFiles(Config{TLSCert: filepath.Join(s.dir, "tls.crt"), TLSKey: filepath.Join(s.dir, "tls.key")}, clk, slog.New(slog.DiscardHandler))
	backendtest.Must(t, err)
	link("second")
	s.clock.Advance(tlsLookEvery)
	files.look(t.Context())
	if got := files.current.Load().Certificates[0].Leaf.SerialNumber.Int64(); got != 3 {
		t.Errorf("the certificate is number %d, want 3", got)
	}
}

// TestTLSClients: with a CA of clients nobody connects without its certificate.
func TestTLSClients(t *testing.T) {
	t.Parallel()
	clients, others := newAuthority(t), newAuthority(t)
	s := serveTLS(t, clients)
	good, _, _ := clients.issue(x509.ExtKeyUsageClientAuth)
	server, _, _ := clients.issue(x509.ExtKeyUsageServerAuth)
	stranger, _, _ := others.issue(x509.ExtKeyUsageClientAuth)
	ours, _, _ := s.issue(x509.ExtKeyUsageClientAuth) // of the CA that issued the server's
	// force shows a certificate that the server did not ask for.
	force := func(pair tls.Certificate) *http.Client {
		client := s.client()
		client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate =
			func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		return client
	}
	accepted := func(what string, client *http.Client, want bool) {
		t.Helper()
		res, err := get(client, s.url+"/healthz")
		if got := err == nil; got != want {
			t.Errorf("%s: accepted %t (%v), want %t", what, got, err, want)
		} else if got && res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", what, res.Status)
		}
	}
	accepted("a client of the CA", s.client(good), true)
	accepted("nobody", s.client(), false)
	accepted("a server's certificate of the CA", force(server), false)
	accepted("a client of another CA", force(stranger), false)
	accepted("a client of the server's CA", force(ours), false)
	own, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem"))
	backendtest.Must(t, err)
	accepted("the server itself", force(own), true)

	// A CA that is not trusted any more lets nobody in, not even those who
	// resume a session from before.
	resumes := s.client(good)
	resumes.Transport.(*http.Transport).DisableKeepAlives = true
	resumes.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	resumes.Transport.(*http.Transport).TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	accepted("a client of the CA", resumes, true)
	res, err := get(resumes, s.url+"/healthz")
	if err != nil || !res.TLS.DidResume {
		t.Errorf("the session is not resumed: %v", err)
	}
	s.write("clients.pem", others.pem)
	s.clock.Advance(tlsLookEvery)
	accepted("a client of a CA that was taken away", resumes, false)
	accepted("a client of the CA that took its place", s.client(stranger), true)
	s.clock.Advance(2 * time.Hour)
	accepted("a certificate that has expired", s.client(stranger), false)
}

func TestTLSMistakes(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		backendtest.Must(t, os.WriteFile(path, content, 0o600))
		return path
	}
	_, one, key := a.issue(x509.ExtKeyUsageServerAuth)
	_, other, _ := a.issue(x509.ExtKeyUsageServerAuth)
	cert, secret, foreign := file("cert", one), file("key", key), file("other", other)
	for what, test := range map[string]struct {
		config Config
		want   string
	}{
		"a certificate alone":      {Config{TLSCert: cert}, "belong together"},
		"a key alone":              {Config{TLSKey: secret}, "belong together"},
		"a CA alone":               {Config{TLSClientCA: cert}, "--tls-client-ca needs"},
		"no file":                  {Config{TLSCert: filepath.Join(dir, "none"), TLSKey: secret}, "--tls-cert: open"},
		"no key's file":            {Config{TLSCert: cert, TLSKey: filepath.Join(dir, "none")}, "--tls-key: open"},
		"another's certificate":    {Config{TLSCert: foreign, TLSKey: secret}, "private key does not match"},
		"the wrong way round":      {Config{TLSCert: secret, TLSKey: cert}, "--tls-cert"},
		"a CA without certificate": {Config{TLSCert: cert, TLSKey: secret, TLSClientCA: secret}, "--tls-client-ca"},
		"a huge file":              {Config{TLSCert: file("huge", make([]byte, maxPEM+1)), TLSKey: secret}, "more than"},
	} {
		test.config.Listen = "127.0.0.1:0"
		listener, err := Listen(test.config, clock.Real(), slog.New(slog.DiscardHandler))
		if err == nil {
			listener.Close()
			t.Errorf("%s: no error", what)
		} else if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v, want %q", what, err, test.want)
		}
	}
}
