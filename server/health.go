package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/app"
)

// patience is how long the health command waits for an answer.
const patience = 2 * time.Second

type health struct{}

// Run asks the server at the listen address whether it is ready. It is an
// error, and so exit status 1, when it is not: what a container's health check
// needs where there is no shell and no curl.
func (health) Run(ctx context.Context, config app.Config) error {
	address, err := askable(config.Listen)
	if err != nil {
		return err
	}
	// Not the default transport: the server is next door, never behind a proxy.
	transport := &http.Transport{DisableKeepAlives: true}
	at := "http://" + address + "/readyz"
	if config.TLSCert != "" {
		at = "https://" + address + "/readyz"
		if transport.TLSClientConfig, err = probeTLS(config); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("not healthy: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return fmt.Errorf("not healthy: read the answer of %s: %w", at, err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not healthy: %s answered %s: %s", at, res.Status, strings.TrimSpace(string(body)))
	}
	fmt.Printf("healthy: %s", body)
	return nil
}

// probeTLS asks over TLS without checking who answers: the certificate is made
// out to the server's public name, not to this address, nothing secret is sent,
// and the answer is only believed to be a status. Where clients need a
// certificate, the probe shows the server's own, which the server accepts.
func probeTLS(config app.Config) (*tls.Config, error) {
	probe := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	if config.TLSClientCA == "" {
		return probe, nil
	}
	own, err := tls.LoadX509KeyPair(config.TLSCert, config.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	// Not Certificates: it would be held back, as none of the clients' CAs
	// issued it.
	probe.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	return probe, nil
}

// askable is where a server that listens on this address can be asked from the
// same machine: a wildcard is no address to connect to.
func askable(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("--listen %q is not HOST:PORT", listen)
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
