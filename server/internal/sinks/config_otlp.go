package sinks

import (
	"cmp"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// otlp reads where the collector is, from the address or the standard variables
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
func (o *options) otlp(target *Target, address string, c common) {
	if address == "" {
		address = os.Getenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")
	}
	if base := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); address == "" && base != "" {
		address = strings.TrimSuffix(base, "/") + "/v1/logs"
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil:
		o.fail("it must be otlp:https://COLLECTOR:4318/v1/logs, or otlp: with OTEL_EXPORTER_OTLP_ENDPOINT set")
		return
	case u.Scheme == "http" && !loopback(u.Hostname()):
		o.fail("http:// is for this machine only: everybody on the way could read the log; use https://")
	}
	given := o.secret("headers")
	if given == "" {
		given = cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS"), os.Getenv("OTEL_EXPORTER_OTLP_HEADERS"))
	}
	headers := map[string]string{}
	for pair := range strings.SplitSeq(given, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); err != nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			o.fail("headers must be NAME=VALUE, with a comma between and what is special as %%XX")
			return
		}
		headers[http.CanonicalHeaderKey(name)] = value
	}
	s := otlpSink{url: address, headers: headers, version: c.Version, clock: c.Clock}
	roots := o.roots("ca")
	target.Size = Size{Events: int(o.number("batch", 500, maxBatch)), Bytes: 1 << 20}
	target.Open = func() (Sink, error) {
		opened := s
		opened.client = newClient(roots)
		return &opened, nil
	}
}
