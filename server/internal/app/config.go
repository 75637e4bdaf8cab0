package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit/witness"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/routes"
)

// defaultConnections is how many connections may be open when nothing is set.
const defaultConnections = 4096

// Config is everything a person can set: each field is a flag and an
// environment variable, and its help text is the documentation.
type Config struct {
	Version string `kong:"-"` // of the program

	Listen             string        `help:"Address of the API." default:"127.0.0.1:8000" env:"TOLLGATE_LISTEN" placeholder:"HOST:PORT"`
	GRPCListen         string        `name:"grpc-listen" help:"Address of the gRPC port: the same API for gRPC alone, at a third of what a call costs the server otherwise; empty turns it off. It speaks TLS as the API does." env:"TOLLGATE_GRPC_LISTEN" placeholder:"HOST:PORT"`
	MetricsListen      string        `help:"Address of /metrics; empty turns it off." default:"127.0.0.1:9464" env:"TOLLGATE_METRICS_LISTEN" placeholder:"HOST:PORT"`
	GatewayListen      string        `help:"Address of the gateway, a reverse proxy that lets pass what the route table and the caller's permissions allow; empty turns it off. It speaks TLS as the API does." env:"TOLLGATE_GATEWAY_LISTEN" placeholder:"HOST:PORT"`
	GatewayUpstream    string        `help:"Where the gateway sends requests whose route names no upstream: http:// or https://, a host and maybe a port." env:"TOLLGATE_GATEWAY_UPSTREAM" placeholder:"URL"`
	GatewayAudience    string        `help:"The aud claim of the gateway's assertions; empty: --audience." env:"TOLLGATE_GATEWAY_AUDIENCE" placeholder:"NAME"`
	GatewayTimeout     time.Duration `help:"How long the gateway waits until an upstream's response begins." default:"1m" env:"TOLLGATE_GATEWAY_TIMEOUT"`
	GatewayClientTime  time.Duration `help:"How long a client of the gateway may send and take nothing." default:"30s" hidden:"" env:"TOLLGATE_GATEWAY_CLIENT_TIME"`
	GatewayMaxRequests int           `help:"How many requests the gateway has under way at once, streams and WebSockets included; one more is answered with 503 at once. One address gets at most half of the places. 0: 1024." default:"1024" env:"TOLLGATE_GATEWAY_MAX_REQUESTS"`

	TLSCert        string        `help:"Certificate of the API in PEM, with those between it and its CA; files that change are taken up within seconds. Empty: no TLS here." env:"TOLLGATE_TLS_CERT" placeholder:"FILE"`
	TLSKey         string        `help:"Private key of --tls-cert in PEM." env:"TOLLGATE_TLS_KEY" placeholder:"FILE"`
	TLSClientCA    string        `help:"CA certificates in PEM; who has no certificate of theirs cannot connect. Empty: everybody can." env:"TOLLGATE_TLS_CLIENT_CA" placeholder:"FILE"`
	DatabaseURL    string        `help:"Where the truth is kept: sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME." default:"sqlite:tollgate.db" env:"TOLLGATE_DATABASE_URL" secret:"true" placeholder:"URL"`
	RedisURL       string        `help:"Where limits are counted and instances hear of changes: redis://HOST:PORT. Empty: in this process." env:"TOLLGATE_REDIS_URL" secret:"true" placeholder:"URL"`
	MasterKey      string        `help:"32 random bytes in base64 that seal the signing keys (openssl rand -base64 32), or file:PATH to read or make them there. With SQLite the default is file:DATABASE.key; with PostgreSQL there is none." env:"TOLLGATE_MASTER_KEY" secret:"true" placeholder:"KEY"`
	TrustedProxies []string      `help:"Proxies whose X-Forwarded-For is believed, as addresses or CIDRs. None by default." env:"TOLLGATE_TRUSTED_PROXIES" placeholder:"CIDR"`
	Issuer         string        `help:"The iss claim of access tokens: the URL that callers know this server by." default:"http://localhost:8000" env:"TOLLGATE_ISSUER" placeholder:"URL"`
	Audience       string        `help:"The aud claim of access tokens." default:"tollgate" env:"TOLLGATE_AUDIENCE" placeholder:"NAME"`
	AccessTokenTTL time.Duration `help:"How long an access token lives." default:"15m" env:"TOLLGATE_ACCESS_TOKEN_TTL"`
	SessionIdle    time.Duration `help:"How long a session lives without a refresh." default:"336h" env:"TOLLGATE_SESSION_IDLE"`
	SessionMax     time.Duration `help:"How long a session lives at most." default:"2160h" env:"TOLLGATE_SESSION_MAX"`
	RefreshGrace   time.Duration `help:"How long the refresh token that was spent last may be sent again, until its successor is used: for clients that lose an answer. 0 to 30s; 0: not at all." default:"0s" env:"TOLLGATE_REFRESH_GRACE"`
	BcryptCost     int           `help:"Work per password check: each step doubles it." default:"12" env:"TOLLGATE_BCRYPT_COST"`
	Staleness      time.Duration `help:"How long an instance that cannot reach the database still answers from memory." default:"5s" env:"TOLLGATE_STALENESS"`
	MaxConnections int           `help:"How many connections may be open at once; one more is closed at once. One address gets at most half of the places, except for a trusted proxy. 0: 4096." default:"4096" env:"TOLLGATE_MAX_CONNECTIONS"`
	MaxInFlight    int           `aliases:"max-calls" help:"How many calls may run at once; one more is answered with 503 at once. One address, and one user, gets at most half of the places. Streams and health checks do not count. 0: 1024." default:"1024" env:"TOLLGATE_MAX_IN_FLIGHT,TOLLGATE_MAX_CALLS"`
	MemoryLimit    string        `help:"Memory that the server tries to stay below, such as 512MiB; auto: nine tenths of its cgroup's, where that has a limit; none: no limit. With one the garbage collector runs more rarely until it comes near. GOMEMLIMIT and GOGC win." default:"auto" env:"TOLLGATE_MEMORY_LIMIT" placeholder:"SIZE"`
	DrainDelay     time.Duration `help:"How long to go on as usual after SIGTERM, with /readyz saying no already: as long as your load balancer takes to notice. 5s is usual." default:"0s" env:"TOLLGATE_DRAIN_DELAY"`
	AuditRetention Age           `help:"How long audit events are kept, at least 24h: 36h, 90d, 2y; older ones are deleted, but for those on hold. 0: for good." default:"0s" env:"TOLLGATE_AUDIT_RETENTION" placeholder:"AGE"`
	RetentionFor   []string      `name:"audit-retention-for" help:"How long audit events of an action, or of all that begin as one, are kept instead: access.denied=30d,auth.*=90d. The longest that matches an event counts." env:"TOLLGATE_AUDIT_RETENTION_FOR" placeholder:"ACTION=AGE"`
	AuditSinks     []string      `name:"audit-sink" sep:" " help:"Where the audit log is followed to, as NAME=URL#OPTIONS, such as archive=file:/var/log/tollgate/audit.ndjson; repeat the flag, or put spaces between, for more. See docs/audit.md." env:"TOLLGATE_AUDIT_SINKS" secret:"true" placeholder:"SINK"`
	CheckpointFile string        `name:"audit-checkpoint-file" help:"File to which the newest signed checkpoint of the audit log is written every second: on a disk that who runs the database cannot write. A server that finds one there signs only what continues it." env:"TOLLGATE_AUDIT_CHECKPOINT_FILE" placeholder:"FILE"`
	AuditWitnesses []string      `name:"audit-witness" help:"Witness that cosigns checkpoints of the audit log (https://c2sp.org/tlog-witness), as URL#NAME+HASH+KEY with its key." env:"TOLLGATE_AUDIT_WITNESSES" placeholder:"WITNESS"`
	Reflection     bool          `help:"Let gRPC tools list and describe the API. It takes a credential, unless the server is the embedded default on a loopback address." default:"true" negatable:"" env:"TOLLGATE_REFLECTION"`
	Console        *bool         `help:"Serve the web console at /console/: --console or --no-console. When not set, it is served if the API's address is a loopback one." negatable:"" env:"TOLLGATE_CONSOLE"`
	AdminPassword  string        `help:"Password of the first administrator, admin, made when there are no users. One is made up and shown once when this is empty." env:"TOLLGATE_ADMIN_PASSWORD" secret:"true" placeholder:"PASSWORD"`
	LogLevel       string        `help:"debug, info, warn or error." default:"info" enum:"debug,info,warn,error" env:"TOLLGATE_LOG_LEVEL"`
	LogFormat      string        `help:"text, json, or auto: text on a terminal." default:"auto" enum:"auto,text,json" env:"TOLLGATE_LOG_FORMAT"`

	SigningAlgorithm   string        `help:"Algorithm of the signing keys made from now on: EdDSA, or ES256 or RS256 for consumers that need it. For a key of it at once: tollgate signing-keys rotate." default:"EdDSA" enum:"EdDSA,ES256,RS256" env:"TOLLGATE_SIGNING_ALGORITHM"`
	SigningKeyRotation time.Duration `help:"How often a new signing key is made; 0: only by tollgate signing-keys rotate. No token is refused on the way." default:"2160h" env:"TOLLGATE_SIGNING_KEY_ROTATION"`
	SigningKeyAhead    time.Duration `help:"How long a new signing key is published before it signs. Others may keep the key set for 5 minutes: less is for tests." default:"7m10s" hidden:"" env:"TOLLGATE_SIGNING_KEY_AHEAD"`

	RequireSecondFactorFor []string      `help:"Roles whose holders must have signed in with a second factor to change who may do what or to see a secret: administrator, say. None by default." env:"TOLLGATE_REQUIRE_SECOND_FACTOR_FOR" placeholder:"ROLE"`
	RequireRecentSignIn    time.Duration `help:"How long ago people may have signed in to change who may do what or to see a secret; 0: as long as they like." default:"0s" env:"TOLLGATE_REQUIRE_RECENT_SIGN_IN"`
}

// Secrets are the variables of settings that hold a secret. Each may be given
// as a file instead: TOLLGATE_X_FILE names the file with the value of
// TOLLGATE_X, as container secrets have it.
func Secrets() []string {
	var names []string
	for field := range reflect.TypeFor[Config]().Fields() {
		if field.Tag.Get("secret") == "true" {
			names = append(names, field.Tag.Get("env"))
		}
	}
	return names
}

// check refuses what cannot work, naming the flag.
func (c Config) check() error {
	if !c.embedded() && !strings.HasPrefix(c.DatabaseURL, "postgres://") && !strings.HasPrefix(c.DatabaseURL, "postgresql://") {
		return fmt.Errorf("--database-url must start with postgres:// or sqlite: (sqlite:tollgate.db)")
	}
	if c.RedisURL != "" {
		client, err := openRedis(c.RedisURL)
		if err != nil {
			return fmt.Errorf("--redis-url: %w", err)
		}
		client.Close()
	}
	switch {
	case c.AccessTokenTTL < time.Second || c.AccessTokenTTL > jose.MaxTokenTTL:
		return fmt.Errorf("--access-token-ttl must be from 1s to %s, not %s", jose.MaxTokenTTL, c.AccessTokenTTL)
	case c.SessionIdle < time.Minute || c.SessionMax < c.SessionIdle:
		return fmt.Errorf("--session-idle must be at least 1m and --session-max at least as long")
	case c.RequireRecentSignIn != 0 && c.RequireRecentSignIn < time.Minute:
		return fmt.Errorf("--require-recent-sign-in must be 0 or at least 1m, not %s", c.RequireRecentSignIn)
	case slices.Contains(c.RequireSecondFactorFor, ""):
		return fmt.Errorf("--require-second-factor-for must be names of roles with a comma between")
	case c.RefreshGrace < 0 || c.RefreshGrace > 30*time.Second:
		return fmt.Errorf("--refresh-grace must be from 0s to 30s, not %s", c.RefreshGrace)
	case c.SigningKeyRotation < 0 || c.SigningKeyRotation > 0 && c.SigningKeyRotation <= c.SigningKeyAhead:
		return fmt.Errorf("--signing-key-rotation must be 0 or longer than %s, for which a key is published before it signs", c.SigningKeyAhead)
	case c.SigningKeyAhead < 0 || c.SigningKeyAhead > 24*time.Hour:
		return fmt.Errorf("--signing-key-ahead must be from 0s to 24h, not %s", c.SigningKeyAhead)
	case c.SigningAlgorithm != "" && !slices.Contains(jose.Algorithms(), c.SigningAlgorithm):
		return fmt.Errorf("--signing-algorithm must be one of %s", strings.Join(jose.Algorithms(), ", "))
	case c.BcryptCost < 4 || c.BcryptCost > 16:
		return fmt.Errorf("--bcrypt-cost must be from 4 to 16, not %d", c.BcryptCost)
	case c.Staleness < time.Second || c.Staleness > time.Hour:
		return fmt.Errorf("--staleness must be from 1s to 1h, not %s", c.Staleness)
	case c.MaxConnections < 0:
		return fmt.Errorf("--max-connections must not be negative; 0 is the default")
	case c.MaxInFlight < 0:
		return fmt.Errorf("--max-in-flight must not be negative; 0 is the default")
	case c.GatewayTimeout != 0 && (c.GatewayTimeout < time.Second || c.GatewayTimeout > time.Hour):
		return fmt.Errorf("--gateway-timeout must be from 1s to 1h, not %s", c.GatewayTimeout)
	case c.GatewayMaxRequests < 0:
		return fmt.Errorf("--gateway-max-requests must not be negative; 0 is the default")
	case c.GatewayListen == "" && c.GatewayUpstream != "":
		return fmt.Errorf("--gateway-upstream needs --gateway-listen")
	case c.DrainDelay < 0 || c.DrainDelay > time.Hour:
		return fmt.Errorf("--drain-delay must be from 0s to 1h, not %s", c.DrainDelay)
	case c.Audience == "":
		return fmt.Errorf("--audience must not be empty")
	case !absoluteURL(c.Issuer):
		return fmt.Errorf("--issuer must be the URL that callers know this server by, such as https://auth.example.com, without a query, not %q", c.Issuer)
	}
	if _, err := c.proxies(); err != nil {
		return err
	}
	if _, err := c.upstream(); err != nil {
		return err
	}
	if _, err := c.retentions(); err != nil {
		return err
	}
	if _, err := c.witnesses(); err != nil {
		return err
	}
	return c.checkTLS()
}

// absoluteURL says whether an issuer is one as RFC 8414 §2 has them; http is
// allowed too, for tries.
func absoluteURL(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		u.User == nil && !strings.ContainsAny(issuer, "?#")
}

// Summary is what a start logs: where this instance keeps what, and as whom it
// signs, without any secret.
func (c Config) Summary() []any {
	counters := "in this process"
	if c.RedisURL != "" {
		counters = redactURL(c.RedisURL)
	}
	return []any{"version", c.Version, "database", redactURL(c.DatabaseURL), "redis", counters, "issuer", c.Issuer}
}

func (c Config) embedded() bool { return strings.HasPrefix(c.DatabaseURL, "sqlite:") }

// witnesses are those of --audit-witness.
func (c Config) witnesses() ([]*witness.Witness, error) {
	list := make([]*witness.Witness, len(c.AuditWitnesses))
	for i, text := range c.AuditWitnesses {
		var err error
		if list[i], err = witness.Parse(text); err != nil {
			return nil, fmt.Errorf("--audit-witness %s: %w", text, err)
		}
	}
	return list, nil
}

// auditOrigin names a new audit log: the issuer without its scheme, and /audit
// (https://c2sp.org/tlog-checkpoint).
func (c Config) auditOrigin() string {
	_, address, _ := strings.Cut(c.Issuer, "://")
	return strings.TrimRight(address, "/") + "/audit"
}

// local says whether this is the embedded default that only this machine can
// reach.
func (c Config) local() bool {
	return c.embedded() && loopback(c.Listen) && (c.GRPCListen == "" || loopback(c.GRPCListen))
}

// console says whether the console is served.
func (c Config) console() bool {
	if c.Console != nil {
		return *c.Console
	}
	return loopback(c.Listen)
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// masterKey is where the master key comes from.
func (c Config) masterKey() string {
	if c.MasterKey == "" && c.embedded() {
		return "file:" + strings.TrimPrefix(c.DatabaseURL, "sqlite:") + ".key"
	}
	return c.MasterKey
}

// upstream is where the gateway sends requests whose route does not say it.
func (c Config) upstream() (string, error) {
	upstream, err := routes.NormalUpstream(c.GatewayUpstream)
	if err != nil {
		return "", errors.New("--gateway-" + fault.From(err).Message)
	}
	return upstream, nil
}

func (c Config) proxies() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.TrustedProxies {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			all = append(all, prefix.Masked())
			continue
		}
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies: %q is neither an address nor a CIDR", text)
		}
		all = append(all, netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
	}
	return all, nil
}

// redactURL is a URL without its password and without its query, which may hold
// another.
func redactURL(address string) string {
	if strings.HasPrefix(address, "sqlite:") {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "(not a URL)"
	}
	u.RawQuery, u.Fragment = "", ""
	return u.Redacted()
}

// dialAddress is where curl on this machine reaches the address: a wildcard is
// no address to dial.
func dialAddress(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return address.String()
	}
	if tcp.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return tcp.String()
}
