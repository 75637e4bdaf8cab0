package gateway

import (
	"log/slog"
	"net/http"
	"time"
)

// The waits for a client that end without its exchange's own clocks.
const (
	headerTime = 5 * time.Second  // for a request's headers
	idleTime   = 2 * time.Minute  // between requests of one connection
	lastTime   = 10 * time.Second // for the end of a response, behind what the exchange wrote

	pingAfter = 30 * time.Second // without a frame of an HTTP/2 connection
	pingTime  = 10 * time.Second // for its answer
	writeTime = 10 * time.Second // for any byte to leave an HTTP/2 connection
)

// NewServer makes the server of a gateway: HTTP/1.1 and HTTP/2, in clear text, too.
// A body and a response may take as long as they like: an exchange ends when its
// client stands still.
func NewServer(g *Gateway, log *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTime,
			WriteByteTimeout:              writeTime,
		},
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused like any target without a route
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true) // where the listener speaks TLS
	server.Protocols.SetUnencryptedHTTP2(true)
	return server
}
