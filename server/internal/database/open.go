package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	_ "modernc.org/sqlite" // the driver named "sqlite"
)

// How long one statement or transaction may take before the database counts as
// down. SQLite never goes down, but its disk can be slow.
const (
	postgresTimeout = 900 * time.Millisecond
	sqliteTimeout   = 5 * time.Second
)

// How often, and after what pause, something is tried again while other
// processes have the SQLite file: for about five seconds.
const (
	maxBusyTries = 500
	busyPause    = 10 * time.Millisecond
)

// How often, and after what pause, a step of the schema is tried again that gave up
// waiting for a lock, so that nobody waits behind it: for about a minute.
const (
	maxLockTries = 240
	lockPause    = 250 * time.Millisecond
)

// Open opens "postgres://…" or "sqlite:PATH". It does not say whether the
// database answers: Ping or Migrate do.
func Open(address string) (*DB, error) {
	if strings.HasPrefix(address, "sqlite:") {
		return OpenWithin(address, sqliteTimeout)
	}
	return OpenWithin(address, postgresTimeout)
}

// OpenWithin is Open with another bound on how long one statement or
// transaction may take.
func OpenWithin(address string, timeout time.Duration) (*DB, error) {
	switch {
	case strings.HasPrefix(address, "postgres://"), strings.HasPrefix(address, "postgresql://"):
		return openPostgreSQL(address, timeout)
	case strings.HasPrefix(address, "sqlite:"):
		return openSQLite(strings.TrimPrefix(address, "sqlite:"), timeout)
	default:
		return nil, fmt.Errorf("database URL must start with postgres:// or sqlite: (sqlite:tollgate.db)")
	}
}

func openPostgreSQL(address string, timeout time.Duration) (*DB, error) {
	connector, err := newConnector(address)
	if err != nil {
		return nil, err
	}
	connector.Dialer(dialer{timeout})
	pool := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	pool.SetMaxOpenConns(20)
	pool.SetMaxIdleConns(20)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return &DB{queries: queries{PostgreSQL, pool, timeout}, pool: pool, url: address}, nil
}

// newConnector has arguments sent along with their statement, in one message:
// half the round trips, and nothing is prepared that a pooler in transaction
// mode could have lost by the time it is run.
func newConnector(address string) (*pq.Connector, error) {
	// The errors' texts may quote the address, and that holds the password.
	bad := errors.New("database URL: not a valid postgres:// URL")
	u, err := url.Parse(address)
	if err != nil {
		return nil, bad
	}
	query := u.Query()
	query.Set("binary_parameters", "yes")
	u.RawQuery = query.Encode()
	connector, err := pq.NewConnector(u.String())
	if err != nil {
		return nil, bad
	}
	return connector, nil
}

func openSQLite(path string, timeout time.Duration) (*DB, error) {
	if path == "" {
		return nil, fmt.Errorf("database URL: sqlite: needs a file name (sqlite:tollgate.db)")
	}
	// SQLite would create the file readable for all, and its -wal and -shm too; it
	// holds password hashes.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = file.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("database URL: the folder %s does not exist; make it, or name another file", filepath.Dir(path)+string(filepath.Separator))
	}
	if err != nil {
		return nil, fmt.Errorf("open SQLite file: %w", err)
	}
	options := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)",
			"foreign_keys(1)", "cache_size(-4000)",
		},
	}
	pool, err := sqlx.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+options.Encode())
	if err != nil {
		return nil, fmt.Errorf("open SQLite file %s: %w", path, err)
	}
	pool.SetMaxOpenConns(8)
	pool.SetMaxIdleConns(4)
	// Changing a new file to WAL fails at once while another process does the
	// same, whatever busy_timeout says. Any other error comes again at its use.
	for began := time.Now(); isSerializationFailure(pool.PingContext(context.Background())) && time.Since(began) < timeout; {
		time.Sleep(busyPause)
	}
	return &DB{queries: queries{SQLite, pool, timeout}, pool: pool, url: path, writing: make(chan struct{}, 1)}, nil
}

// dialer makes connections whose reads and writes end: lib/pq waits for an
// answer even after a context's end, so a host that vanished without a word
// would hold a connection for good.
type dialer struct{ timeout time.Duration }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return boundedConn{conn, d.timeout}, nil
}

type boundedConn struct {
	net.Conn
	timeout time.Duration
}

func (c boundedConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c boundedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
