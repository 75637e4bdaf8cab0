package sinks

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tollgatehq/tollgate/server/internal/audit/export"
)

var (
	bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)
	regionPattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

func (o *options) s3(target *Target, address string, c common) {
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(address, "//"), "/")
	if !bucketPattern.MatchString(bucket) || strings.Contains(bucket, "..") {
		o.fail("it must be s3://BUCKET/PREFIX, with the name of a bucket")
	}
	if prefix = strings.TrimSuffix(prefix, "/"); prefix != "" {
		if !prefixPattern.MatchString(prefix) {
			o.fail("the prefix must be of letters, digits, _, -, . and /")
		}
		prefix += "/"
	}
	s := s3Sink{
		region: o.text("region", "us-east-1"), extension: string(c.format), checkpoint: c.Checkpoint,
		line: export.Writer(c.format, c.Version), clock: c.Clock, signer: newSigner(),
	}
	if !regionPattern.MatchString(s.region) {
		o.fail("region must be like eu-central-1")
	}
	s.base = o.bucketURL(bucket, s.region) + prefix
	s.credentials = o.credentials("credentials")
	if _, err := s.credentials(); err != nil {
		o.fail("%w", err)
	}
	roots := o.roots("ca")
	target.Size = Size{
		Events: int(o.number("batch", maxBatch, maxBatch)), Bytes: 8 << 20,
		Linger: o.duration("every", "1m", time.Second, 24*time.Hour),
	}
	target.Open = func() (Sink, error) {
		opened := s
		opened.client = newClient(roots)
		return &opened, nil
	}
}

// bucketURL is where the bucket is, with a slash at the end: as a host at Amazon, below
// the endpoint elsewhere.
func (o *options) bucketURL(bucket, region string) string {
	endpoint := o.text("endpoint", "")
	if endpoint == "" {
		if strings.Contains(bucket, ".") { // no certificate has such a host
			return "https://s3." + region + ".amazonaws.com/" + bucket + "/"
		}
		return "https://" + bucket + ".s3." + region + ".amazonaws.com/"
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		o.fail("endpoint must be https:// and a host, such as https://minio.example.com")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		o.fail("endpoint: http:// is for this machine only; use https://")
	}
	return strings.TrimSuffix(endpoint, "/") + "/" + bucket + "/"
}

// credentials reads a file each time that they are needed, so that who renews them writes
// the file; without one, the variables that Amazon's tools read.
func (o *options) credentials(name string) func() (aws.Credentials, error) {
	source := o.text(name, "")
	path, isFile := strings.CutPrefix(source, "file:")
	if source != "" && !isFile {
		o.fail("%s must be file:PATH; without it they are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", name)
	}
	if !isFile {
		found := aws.Credentials{
			AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN"),
		}
		return func() (aws.Credentials, error) {
			if !found.HasKeys() {
				return found, errors.New("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give credentials=file:PATH")
			}
			return found, nil
		}
	}
	return func() (found aws.Credentials, err error) {
		content, err := os.ReadFile(path)
		if err != nil {
			return found, fmt.Errorf("%s: %w", name, err)
		}
		// As "aws configure export-credentials" writes them.
		if len(content) > maxSecret || json.Unmarshal(content, &found) != nil || !found.HasKeys() {
			return found, fmt.Errorf(`%s: %s must be JSON with "AccessKeyId", "SecretAccessKey" and maybe "SessionToken"`, name, path)
		}
		return found, nil
	}
}
