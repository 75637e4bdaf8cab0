package sinks

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// s3Sink puts each batch as an object of its own, and signed checkpoints of the log beside
// them. It needs to put objects and nothing else: not to read, list or delete them. So
// Amazon's signer is enough; a client of all of S3 is a dozen modules.
type s3Sink struct {
	base        string // the bucket's URL and the prefix, with a slash at the end
	region      string
	extension   string // of the lines
	credentials func() (aws.Credentials, error)
	checkpoint  func(ctx context.Context) (size int64, note string, err error)
	line        func([]byte, *audit.Entry) []byte
	client      *http.Client
	signer      *v4.Signer
	clock       clock.Clock

	signed int64 // the size of the last checkpoint that was put
}

func newSigner() *v4.Signer {
	// S3 signs the path as it is sent.
	return v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
}

// Deliver implements Sink. The batch that comes again has the same name and the same
// bytes, so that nothing is there twice.
func (s *s3Sink) Deliver(ctx context.Context, b Batch) error {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	var text []byte
	for i := range b.Entries {
		text = s.line(text[:0], &b.Entries[i])
		if _, err := writer.Write(text); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	// The first event's id: another log in the same bucket has other names.
	name := fmt.Sprintf("%020d-%020d-%s.%s.gz", b.First(), b.Last(), b.Entries[0].ID, s.extension)
	if err := s.put(ctx, name, "application/gzip", packed.Bytes()); err != nil {
		return err
	}
	size, note, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	if size == s.signed || note == "" {
		return nil
	}
	if err := s.put(ctx, fmt.Sprintf("checkpoints/%020d", size), "text/plain; charset=utf-8", []byte(note)); err != nil {
		return err
	}
	s.signed = size
	return nil
}

// put puts an object (https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html).
func (s *s3Sink) put(ctx context.Context, name, contentType string, body []byte) error {
	credentials, err := s.credentials()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.base+name, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	sum := sha256.Sum256(body)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "tollgate")
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	req.Header.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:])) // which buckets with object lock ask for
	if err := s.signer.SignHTTP(ctx, credentials, req, hex.EncodeToString(sum[:]), "s3", s.region, s.clock.Now()); err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err := answered(res, s.clock.Now()); err != nil {
		if code := errorCode(answer); code != "" {
			return fmt.Errorf("%w: %s", err, code)
		}
		return err
	}
	return nil
}

var codePattern = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// errorCode is what S3 calls an error, such as AccessDenied.
func errorCode(answer []byte) string {
	var said struct{ Code string }
	if xml.Unmarshal(answer, &said) != nil || !codePattern.MatchString(said.Code) {
		return ""
	}
	return said.Code
}

// Close implements Sink.
func (s *s3Sink) Close() error {
	s.client.CloseIdleConnections()
	return nil
}
