package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// authority is a CA of a test.
type authority struct {
	t    *testing.T
	pair tls.Certificate
	pem  []byte
	last int64 // serial number
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.pair, a.pem, _ = a.make(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue makes a certificate of this CA for an hour.
func (a *authority) issue(usage x509.ExtKeyUsage) (pair tls.Certificate, cert, key []byte) {
	a.t.Helper()
	return a.make(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

func (a *authority) make(template *x509.Certificate) (pair tls.Certificate, cert, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	backendtest.Must(a.t, err)
	a.last++
	template.SerialNumber, template.Subject = big.NewInt(a.last), pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, any(private)
	if a.pair.Leaf != nil {
		parent, signer = a.pair.Leaf, a.pair.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	backendtest.Must(a.t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	backendtest.Must(a.t, err)
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	pair, err = tls.X509KeyPair(cert, key)
	backendtest.Must(a.t, err)
	return pair, cert, key
}

// client trusts the CA and shows these certificates; it speaks HTTP/2 when it may.
func (a *authority) client(own ...tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: own}, ForceAttemptHTTP2: true}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// secured is a Tollgate behind TLS of its own.
type secured struct {
	*authority
	dir   string // of cert.pem, key.pem, and clients.pem when it is asked for
	url   string
	grpc  string // the gRPC port's address
	clock *clock.Fake
	log   *lines
}

func (s *secured) write(name string, content []byte) {
	s.t.Helper()
	backendtest.Must(s.t, os.WriteFile(filepath.Join(s.dir, name), content, 0o600))
}

func serveTLS(t *testing.T, clients *authority) *secured {
	t.Helper()
	clk, fake := fakeClock(time.Now())
	s := &secured{authority: newAuthority(t), dir: t.TempDir(), clock: fake, log: &lines{}}
	_, cert, key := s.issue(x509.ExtKeyUsageServerAuth)
	s.write("cert.pem", cert)
	s.write("key.pem", key)
	config := testConfig(backendtest.SQLiteURL(t))
	config.GRPCListen = "127.0.0.1:0"
	config.TLSCert, config.TLSKey = filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")
	if clients != nil {
		s.write("clients.pem", clients.pem)
		config.TLSClientCA = filepath.Join(s.dir, "clients.pem")
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	listener, err := Listen(config, clk, log)
	backendtest.Must(t, err)
	s.url = "https://" + listener.Addr().String()
	grpc, err := ListenGRPC(config, clk, log)
	backendtest.Must(t, err)
	s.grpc = grpc.Addr().String()
	var greeting bytes.Buffer
	a, err := Open(t.Context(), config, clk, Out{Stdout: &greeting, Log: log})
	backendtest.Must(t, err)
	_, err = a.BootstrapAdmin(t.Context())
	backendtest.Must(t, err)
	if a.PrintWelcome(Addresses{API: listener.Addr()}, ""); !strings.Contains(greeting.String(), "Tollgate answers on "+s.url+"\n") {
		t.Errorf("the greeting is %s", &greeting)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, Listeners{API: listener, GRPC: grpc}) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// get asks for a path and returns the answer, whose body is read.
func get(client *http.Client, url string) (*http.Response, error) {
	res, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res, err
}
