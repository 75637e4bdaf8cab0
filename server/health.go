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

// probeTimeout bounds the health command's wait for an answer.
const probeTimeout = 2 * time.Second

type health struct{}

// Run asks the server at the listen address whether it is ready, and fails when
// it is not. It is for health checks of containers without a shell.
func (health) Run(ctx context.Context, config app.Config) error {
	address, err := probeAddress(config.Listen)
	if err != nil {
		return err
	}
	// Not the default transport: it would go through HTTP_PROXY.
	transport := &http.Transport{DisableKeepAlives: true}
	at := "http://" + address + "/readyz"
	if config.TLSCert != "" {
		at = "https://" + address + "/readyz"
		if transport.TLSClientConfig, err = probeTLS(config); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("not healthy: %w; start the server, or name its address with --listen", err)
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

// probeTLS accepts any certificate: the server's is for its public name, not for
// this address, and the probe sends no secret and reads only a status. Where
// clients need a certificate, the probe presents the server's own, which the
// server accepts.
func probeTLS(config app.Config) (*tls.Config, error) {
	probe := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}
	if config.TLSClientCA == "" {
		return probe, nil
	}
	own, err := tls.LoadX509KeyPair(config.TLSCert, config.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	// Not Certificates: the client would not send it, because none of the CAs
	// that the server names issued it.
	probe.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	return probe, nil
}

// probeAddress returns the address to connect to for a listen address, which may
// be a wildcard.
func probeAddress(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("--listen %q is not HOST:PORT, such as 127.0.0.1:8000", listen)
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
