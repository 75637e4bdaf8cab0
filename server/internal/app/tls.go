package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const (
	// tlsLookEvery is how often the certificate's files are looked at, at most:
	// a handshake later than that takes up what they hold now.
	tlsLookEvery = 2 * time.Second
	// maxPEM bounds each file, in bytes.
	maxPEM = 1 << 20
)

// Listener is the API's, the gRPC or the gateway's port.
type Listener struct {
	net.Listener             // in clear text
	tls          *tls.Config // nil: none
}

// Accept returns the next connection, with TLS when there is a certificate.
func (l *Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || l.tls == nil {
		return conn, err
	}
	return tls.Server(conn, l.tls), nil
}

// Listen opens the API's port: with TLS when the configuration names a
// certificate, in clear text otherwise. An error says which flag to change.
func Listen(config Config, clk clock.Clock, log *slog.Logger) (*Listener, error) {
	return listen(config, config.Listen, "--listen", "the API", clk, log)
}

// ListenGateway opens the gateway's port in the same way, with the same
// certificate; nil without an address.
func ListenGateway(config Config, clk clock.Clock, log *slog.Logger) (*Listener, error) {
	if config.GatewayListen == "" {
		return nil, nil
	}
	return listen(config, config.GatewayListen, "--gateway-listen", "the gateway", clk, log)
}

// ListenGRPC opens the gRPC port in the same way, with the same certificate; nil
// without an address.
func ListenGRPC(config Config, clk clock.Clock, log *slog.Logger) (*Listener, error) {
	if config.GRPCListen == "" {
		return nil, nil
	}
	return listen(config, config.GRPCListen, "--grpc-listen", "the gRPC port", clk, log)
}

func listen(config Config, address, flag, what string, clk clock.Clock, log *slog.Logger) (*Listener, error) {
	if err := config.checkTLS(); err != nil {
		return nil, err
	}
	var certificate *tlsFiles
	if config.TLSCert != "" {
		var err error
		if certificate, err = openTLSFiles(config, clk, log); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w; choose another address with %s", err, flag)
	}
	if certificate != nil {
		return &Listener{listener, certificate.config()}, nil
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		log.Info(what+" speaks clear text at an address that others may reach: give it a certificate with --tls-cert and --tls-key, or let only a proxy that speaks TLS reach it",
			"address", listener.Addr().String())
	}
	return &Listener{Listener: listener}, nil
}

func (c Config) checkTLS() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key belong together; give both, or neither")
	case c.TLSClientCA != "" && c.TLSCert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key")
	}
	return nil
}

// tlsFiles is the certificate, its key and the CA of clients, which may be
// renewed while the server runs. The contents are compared, not the times of
// the files: that holds for files written in place, renamed over and behind a
// symbolic link that is swapped, as Kubernetes does.
type tlsFiles struct {
	cert, key, clientCA string // paths; clientCA may be empty
	now                 func() time.Time
	log                 *slog.Logger

	current atomic.Pointer[tls.Config]
	looking sync.Mutex // held by the handshake that looks; others go on with current
	looked  time.Time
	seen    [sha256.Size]byte // what was found last, a problem included
}

// openTLSFiles reads the files; at the start a broken pair is an error.
func openTLSFiles(config Config, clk clock.Clock, log *slog.Logger) (*tlsFiles, error) {
	t := &tlsFiles{cert: config.TLSCert, key: config.TLSKey, clientCA: config.TLSClientCA, now: clk.Now, log: log}
	found, seen, err := t.read()
	if err != nil {
		return nil, err
	}
	t.current.Store(found)
	t.seen, t.looked = seen, t.now()
	return t, nil
}

// config is for a listener: each handshake gets what the files hold.
func (t *tlsFiles) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			t.look(hello.Context())
			return t.current.Load(), nil
		},
	}
}

// look takes up changed files if it is time to look. What cannot be used leaves
// the old pair in force and is logged once, until the files change again.
// Connections that exist go on in either case.
func (t *tlsFiles) look(ctx context.Context) {
	if !t.looking.TryLock() {
		return
	}
	defer t.looking.Unlock()
	if now := t.now(); now.Sub(t.looked).Abs() < tlsLookEvery {
		return
	}
	found, seen, err := t.read()
	t.looked = t.now()
	if seen == t.seen {
		return
	}
	t.seen = seen
	if err != nil {
		t.log.WarnContext(ctx, "the TLS files changed and cannot be used; the certificate from before stays in force", "error", err)
		return
	}
	t.current.Store(found)
	t.log.InfoContext(ctx, "took up the TLS files, which changed", "not_after", found.Certificates[0].Leaf.NotAfter.UTC().Format(time.RFC3339))
}

// read makes a configuration of what the files hold now. seen tells one state
// of the files from another, also when err says that it cannot be used.
func (t *tlsFiles) read() (found *tls.Config, seen [sha256.Size]byte, err error) {
	defer func() {
		if err != nil {
			seen = sha256.Sum256(append(seen[:], err.Error()...))
		}
	}()
	sum := sha256.New()
	var contents [3][]byte
	for i, path := range []string{t.cert, t.key, t.clientCA} {
		if path == "" {
			continue
		}
		if contents[i], err = readPEM(path); err != nil {
			return nil, seen, fmt.Errorf("%s: %w", [...]string{"--tls-cert", "--tls-key", "--tls-client-ca"}[i], err)
		}
		part := sha256.Sum256(contents[i])
		sum.Write(part[:])
	}
	seen = [sha256.Size]byte(sum.Sum(nil))
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		// The error says what is wrong and holds nothing of the key.
		return nil, seen, fmt.Errorf("--tls-cert %s and --tls-key %s: %w", t.cert, t.key, err)
	}
	found = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
		Time:         t.now,
	}
	if t.clientCA != "" {
		found.ClientCAs = x509.NewCertPool()
		if !found.ClientCAs.AppendCertsFromPEM(contents[2]) {
			return nil, seen, fmt.Errorf("--tls-client-ca: %s holds no certificate in PEM", t.clientCA)
		}
		found.ClientAuth = tls.RequireAnyClientCert
		found.VerifyConnection = t.verifyClient(found.ClientCAs, pair.Leaf)
	}
	return found, seen, nil
}

// verifyClient accepts clients whose certificate one of the CAs issued for
// clients (RFC 5280 §4.2.1.12), also when they resume a session, and this
// server's own certificate: only this server has its key, and the health
// command has no other.
func (t *tlsFiles) verifyClient(roots *x509.CertPool, own *x509.Certificate) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0] // RequireAnyClientCert
		if bytes.Equal(leaf.Raw, own.Raw) {
			return nil
		}
		between := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		return err
	}
}

func readPEM(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxPEM+1))
	if err == nil && len(content) > maxPEM {
		err = fmt.Errorf("%s has more than %d bytes", path, maxPEM)
	}
	return content, err
}
