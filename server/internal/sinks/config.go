package sinks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/tollgatehq/tollgate/server/internal/audit/export"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// Env is what sinks work with.
type Env struct {
	Version string // of the program
	Clock   clock.Clock
	// Checkpoint is the newest signed checkpoint of the log, empty before there is one.
	Checkpoint func(ctx context.Context) (size int64, note string, err error)
}

// Parse reads sinks as the command line has them, NAME=URL#OPTIONS, and the secrets that
// they name. Its errors hold no secret.
func Parse(texts []string, env Env) ([]Target, error) {
	var targets []Target
	for _, text := range texts {
		name, address, found := strings.Cut(text, "=")
		if !found || !namePattern.MatchString(name) {
			return nil, errors.New("each sink is NAME=URL, such as archive=file:/var/log/tollgate/audit.ndjson, with a name of up to 32 of a-z, 0-9, _ and -")
		}
		if slices.ContainsFunc(targets, func(t Target) bool { return t.Name == name }) {
			return nil, fmt.Errorf("two sinks are called %s", name)
		}
		target, err := parse(name, address, env)
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", name, err)
		}
		for _, other := range targets {
			if target.path != "" && other.path == target.path {
				return nil, fmt.Errorf("the sinks %s and %s write the same file, %s", other.Name, name, target.path)
			}
		}
		targets = append(targets, target)
	}
	return targets, nil
}

func parse(name, address string, env Env) (Target, error) {
	address, fragment, _ := strings.Cut(address, "#")
	given, err := url.ParseQuery(fragment)
	if err != nil {
		return Target{}, errors.New("what is after # must be name=value, with & between")
	}
	o := &options{given: given}
	target := Target{Name: name}
	switch from := o.text("from", "start"); from {
	case "start", "end":
		target.FromEnd = from == "end"
	default:
		o.fail("from must be start, for all that the log has, or end, for what is recorded from now on")
	}
	scheme, rest, _ := strings.Cut(address, ":")
	common := common{Env: env}
	if scheme != "otlp" { // which has a form of its own
		common.format = o.format()
	}
	switch scheme {
	case "file":
		o.file(&target, rest, common)
	case "https", "http":
		o.webhook(&target, address, common)
	case "s3":
		o.s3(&target, rest, common)
	case "otlp":
		o.otlp(&target, rest, common)
	default:
		o.fail("it must be file:PATH, https://HOST/PATH, s3://BUCKET/PREFIX or otlp:https://COLLECTOR/v1/logs")
	}
	return target, o.err()
}

// common is what all kinds of sinks are made with.
type common struct {
	Env
	format export.Format
}

func (o *options) format() export.Format {
	format := export.Format(o.text("format", string(export.NDJSON)))
	if format != export.NDJSON && format != export.OCSF {
		o.fail("format must be ndjson or ocsf")
	}
	return format
}

func (c common) contentType() string { return c.format.ContentType(false) }

func (o *options) file(target *Target, path string, c common) {
	path = strings.TrimPrefix(path, "//")
	unescaped, err := url.PathUnescape(path)
	if err != nil || unescaped == "" || !filepath.IsAbs(unescaped) {
		o.fail("a file needs its whole path: file:/var/log/tollgate/audit.ndjson")
	}
	f := fileSink{
		path: unescaped, format: c.format, line: export.Writer(c.format, c.Version),
		rotate: o.size("rotate", "100MB"), keep: int(o.number("keep", 10, 1000)),
	}
	mode, err := strconv.ParseUint(o.text("mode", "0600"), 8, 32)
	if f.mode = fs.FileMode(mode); err != nil || mode&^0o777 != 0 || mode&0o600 != 0o600 || mode&0o002 != 0 {
		o.fail("mode must be like 0600, or 0640 for readers of the file's group")
	}
	target.path = filepath.Clean(unescaped)
	target.Size = Size{Events: int(o.number("batch", 1000, maxBatch)), Bytes: 4 << 20}
	target.Open = func() (Sink, error) { opened := f; return &opened, nil }
}

func (o *options) webhook(target *Target, address string, c common) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		o.fail("the URL must be https://, a host and a path, without a user: give credentials as authorization=file:PATH")
		return
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		o.fail("http:// is for this machine only: everybody on the way could read the log; use https://")
	}
	w := webhookSink{
		url: address, line: export.Writer(c.format, c.Version), clock: c.Clock, contentType: c.contentType(),
		authorization: o.secret("authorization"),
	}
	if w.secrets, err = signingSecrets(o.secret("secret")); err != nil {
		o.fail("%w", err)
	}
	if len(w.secrets) == 0 && w.authorization == "" {
		o.fail("the receiver must know who sends: give secret=file:PATH, authorization=file:PATH, or both; env:VARIABLE does, too")
	}
	roots := o.roots("ca")
	target.Size = Size{Events: int(o.number("batch", 500, maxBatch)), Bytes: 1 << 20}
	target.Open = func() (Sink, error) {
		opened := w
		opened.client = newClient(roots)
		return &opened, nil
	}
}

// maxBatch is how many events are in memory at once, for each sink.
const maxBatch = 10_000

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// options are the values after the # of a sink.
type options struct {
	given  url.Values
	read   []string
	failed error
}

// fail keeps the first thing that is wrong.
func (o *options) fail(format string, args ...any) {
	if o.failed == nil {
		o.failed = fmt.Errorf(format, args...)
	}
}

// err is what is wrong, also with options that nothing read.
func (o *options) err() error {
	if o.failed != nil {
		return o.failed
	}
	for name, values := range o.given {
		if !slices.Contains(o.read, name) {
			slices.Sort(o.read)
			return fmt.Errorf("%q is no option of such a sink; there are %s", name, strings.Join(o.read, ", "))
		}
		if len(values) > 1 {
			return fmt.Errorf("%s is given more than once", name)
		}
	}
	return nil
}

func (o *options) text(name, usual string) string {
	o.read = append(o.read, name)
	if o.given.Has(name) {
		return o.given.Get(name)
	}
	return usual
}

// number is one from 1 on.
func (o *options) number(name string, usual, most int64) int64 {
	n, err := strconv.ParseInt(o.text(name, strconv.FormatInt(usual, 10)), 10, 64)
	if err != nil || n < 1 || n > most {
		o.fail("%s must be a number from 1 to %d", name, most)
	}
	return n
}

func (o *options) duration(name, usual string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(o.text(name, usual))
	if err != nil || d < least || d > most {
		o.fail("%s must be from %s to %s", name, least, most)
	}
	return d
}

// size is a number of bytes, as people write it: 0, or at least 64 KB.
func (o *options) size(name, usual string) int64 {
	n, err := humanize.ParseBytes(o.text(name, usual))
	if err != nil || n > 1<<40 || n > 0 && n < 64_000 {
		o.fail("%s must be a size such as 100MB, from 64KB to 1TB, or 0 for no bound", name)
	}
	return int64(n)
}

// maxSecret bounds what is read of a secret's file, in bytes.
const maxSecret = 16 << 10

// secret reads what file:PATH or env:VARIABLE names, empty when it is not given. It is
// never in the option itself, which other users of the machine can see.
func (o *options) secret(name string) string {
	source := o.text(name, "")
	kind, from, _ := strings.Cut(source, ":")
	var value string
	switch kind {
	case "":
		return ""
	case "env":
		value = os.Getenv(from)
	case "file":
		content, err := os.ReadFile(from)
		if err != nil {
			o.fail("%s: %w", name, err)
			return ""
		}
		if len(content) > maxSecret {
			o.fail("%s: %s is too large for a secret", name, from)
		}
		value = string(content)
	default:
		o.fail("%s must be file:PATH or env:VARIABLE: who lists processes sees flags", name)
		return ""
	}
	if value = strings.TrimSpace(value); value == "" {
		o.fail("%s: %s is empty", name, source)
	}
	return value
}
