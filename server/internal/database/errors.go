package database

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/lib/pq"
	"modernc.org/sqlite"
)

// SQLite's result codes (https://www.sqlite.org/rescode.html).
const (
	sqliteBusy       = 5
	sqliteCorrupt    = 11
	sqliteNotADB     = 26
	sqlitePrimaryKey = 1555
	sqliteUnique     = 2067
)

func isUnique(err error) bool {
	return postgresCode(err) == "23505" || sqliteCode(err) == sqlitePrimaryKey || sqliteCode(err) == sqliteUnique
}

// isSerializationFailure says whether the database rolled the transaction back
// in favor of another one (serialization_failure, deadlock_detected,
// SQLITE_BUSY).
func isSerializationFailure(err error) bool {
	code := postgresCode(err)
	return code == "40001" || code == "40P01" || sqliteCode(err)&0xff == sqliteBusy
}

// IsLockTimeout says whether PostgreSQL gave up waiting for a lock, as BoundLocks told
// it to (lock_not_available).
func IsLockTimeout(err error) bool { return postgresCode(err) == "55P03" }

// isConnection says whether the database was not reached, or hung up: class 08
// (connection exception), 53 (insufficient resources), 57P (operator
// intervention).
func isConnection(err error) bool {
	code := postgresCode(err)
	if strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P") {
		return true
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// advised adds what to do about an error that only an operator can fix.
func advised(err error) error {
	switch code := sqliteCode(err) & 0xff; {
	case code == sqliteCorrupt, code == sqliteNotADB:
		return fmt.Errorf("%w: the SQLite file is damaged; stop the server and restore the file from a backup", err)
	case errors.Is(err, pq.ErrSSLNotSupported):
		return fmt.Errorf("%w: turn TLS on there or, on a network that no one else can read, add ?sslmode=disable to the database URL", err)
	case IsLockTimeout(err):
		return fmt.Errorf("%w: a transaction that has been open for long holds a lock on the table, such as a backup's; start again when it has ended", err)
	default:
		return err
	}
}

func postgresCode(err error) string {
	if e, ok := errors.AsType[*pq.Error](err); ok {
		return string(e.Code)
	}
	return ""
}

func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}
