package database

import (
	"io"
	"net"
	"strings"
	"testing"
)

// A server without TLS is told with what to do about it.
func TestAdvisedTLS(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			var request [8]byte
			io.ReadFull(conn, request[:])
			conn.Write([]byte("N"))
			conn.Close()
		}
	}()
	db, err := Open("postgres://tollgate:hunter2@" + listener.Addr().String() + "/tollgate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, migrated := db.MigrateUp(t.Context())
	for what, err := range map[string]error{"a migration": migrated, "a query": db.Ping(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "sslmode=disable") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
