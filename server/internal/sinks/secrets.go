package sinks

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"os"
	"strings"
)

const (
	secretPrefix = "whsec_"
	leastSecret  = 24 // bytes, as the Standard Webhooks have it
)

// signingSecrets reads secrets with spaces between, none for the empty text.
func signingSecrets(text string) ([][]byte, error) {
	var all [][]byte
	for one := range strings.FieldsSeq(text) {
		encoded, found := strings.CutPrefix(one, secretPrefix)
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !found || err != nil || len(secret) < leastSecret {
			return nil, errors.New(`secret must be whsec_ and at least 24 random bytes in base64: echo "whsec_$(openssl rand -base64 32)"; for a change of secrets, two with a space between`)
		}
		all = append(all, secret)
	}
	return all, nil
}

// tlsRoots are the authorities that are trusted; nil: the system's.
type tlsRoots struct{ pool *x509.CertPool }

func (r *tlsRoots) config() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if r != nil {
		config.RootCAs = r.pool
	}
	return config
}

// roots reads the authorities of a file in PEM.
func (o *options) roots(name string) *tlsRoots {
	path := o.text(name, "")
	if path == "" {
		return nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		o.fail("%s: %w", name, err)
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		o.fail("%s: %s has no certificate in PEM", name, path)
	}
	return &tlsRoots{pool}
}
