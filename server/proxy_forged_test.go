package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/enforce"
)

// forgedTrailers are a body with a trailer, which some servers add to the header.
const forgedTrailers = "Transfer-Encoding: chunked\r\nTrailer: Tollgate-Assertion\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\nTollgate-Assertion: forged\r\n\r\n"

// forged are lines that a client adds to a request to be taken for somebody else,
// or to have another request judged than the one that the service gets. In each,
// "forged" must reach the service nowhere. MANAGER stands for a good credential of
// somebody who may do more.
var forged = []string{
	// Our names, in every spelling.
	"Tollgate-Principal: forged",
	"tollgate-principal: forged",
	"TOLLGATE-PRINCIPAL: forged",
	"tOLLGATE-pRINCIPAL: forged",
	"Tollgate-Assertion: forged",
	"Tollgate-Status: forged",
	"Tollgate-Status: 200\r\nTollgate-Principal: forged",
	"Tollgate_Principal: forged",
	"tollgate_principal: forged",
	"Tollgate_Assertion: forged",
	"Tollgate-Principal: forged\r\nTollgate_Principal: forged\r\nTOLLGATE_PRINCIPAL: forged",
	"Tollgate-Principal: forged\r\nTollgate-Principal: forged",
	"TOLLGATE-PRINCIPAL:\r\nTollgate-Principal: forged",
	"Tollgate-Principal: ,forged",
	"Tollgate-Principal:forged",
	"Tollgate-Principal: \tforged\t ",
	"Tollgate-Principal : forged",
	"Tollgate-Principal\t: forged",
	" Tollgate-Principal: forged",
	"X: y\r\n Tollgate-Principal: folded",
	"X: y\rTollgate-Principal: forged",
	"X: y\nTollgate-Principal: forged",
	"X: y\x00\r\nTollgate-Principal: forged",
	"Tollgate-Principal\x00: forged",
	"Tollgate-Principal\x0b: forged",
	"Tollgate-Principal\xa0: forged",
	"Tollgate-Assertion: " + strings.Repeat("forged", 1<<10),
	"Tollgate-Assertion: " + strings.Repeat("forged", 4<<10),
	"X-Filler: " + strings.Repeat("x", 7<<10) + "\r\nTollgate-Assertion: forged",

	// What Connection lists is removed on the way, ours among it.
	"Connection: Tollgate-Principal",
	"Connection: close, tollgate-assertion, Tollgate-Principal",
	"Connection: Tollgate-Assertion\r\nTollgate-Assertion: forged",
	"Connection: Authorization, X-Tollgate-Key, X-Original-URL, X-Forwarded-Uri",
	"Proxy-Connection: Tollgate-Assertion",
	"Connection: X-Forwarded-For, X-Forwarded-Method, X-Forwarded-Host",

	// Names that services know from other proxies.
	"Remote-User: forged",
	"remote_user: forged",
	"REMOTE-USER: forged",
	"Remote-Groups: forged",
	"Remote_Groups: forged",
	"Remote-Name: forged",
	"Remote-Email: forged",
	"X-Remote-User: forged",
	"X-Auth-Request-User: forged",
	"X_Auth_Request_User: forged",
	"X-Auth_Request-User: forged",
	"X-Auth-Request-Groups: forged",
	"X-Auth-Request-Preferred-Username: forged",
	"X-Auth-Request-Email: forged",
	"X-Auth-Request-Access-Token: forged",
	"X-Forwarded-User: forged",
	"X-Forwarded-Groups: forged",
	"X-Forwarded-Email: forged",
	"X-Forwarded-Preferred-Username: forged",

	// What is between the proxy and Tollgate: another request to be judged, another
	// address, another proxy.
	"X-Tollgate-Key: forged",
	"x_tollgate_key: forged",
	"X-Tollgate-Key: MANAGER",
	"X-Original-URL: http://orders.example.com/forged",
	"X-Original-URI: /forged",
	"X-Original-Method: FORGED",
	"X-Original-Method: GET\r\nX-Original-URL: http://orders.example.com/orders/7",
	"X_Original_URL: http://orders.example.com/forged",
	"X-Rewrite-URL: /forged",
	"X-Forwarded-Uri: /forged",
	"X-Forwarded-Method: GET\r\nX-Forwarded-Host: orders.example.com\r\nX-Forwarded-Uri: /orders/7",
	"X-Forwarded-Method: FORGED",
	"X-Forwarded-Host: forged.example.com",
	"X-Forwarded-Prefix: /forged",
	"X-Forwarded-For: 203.0.113.9",
	"X-Forwarded-For: forged\r\nX-Forwarded-For: 203.0.113.9",
	"X_Forwarded_For: 203.0.113.9",
	"X-Real-IP: 203.0.113.9",
	"Forwarded: for=203.0.113.9;host=forged",
	"X-HTTP-Method-Override: FORGED",
	"X-HTTP-Method: FORGED",
	"X-Method-Override: FORGED",
	"Content-Type: application/grpc",
	"Content-Type: application/connect+json\r\nConnect-Protocol-Version: 1",

	// A second credential beside the one that is judged.
	"Authorization: Bearer MANAGER",
	"X-Api-Key: MANAGER",
}

func (s *protected) forgedHeaders(t *testing.T) {
	if len(forged) < 30 {
		t.Fatalf("only %d", len(forged))
	}
	arrived := 0
	for _, lines := range forged {
		lines = strings.ReplaceAll(lines, "MANAGER", s.manager)
		what := lines[:min(len(lines), 80)]

		// With a good credential the service gets who alice is, or nothing.
		if a := send(t, s.proxy, message("GET", "/orders/7", ordersHost, bearer(s.reader), lines)); a.arrived != nil {
			arrived++
			s.checkIdentity(t, what, a.arrived)
			for _, h := range a.arrived.Header {
				if name, value := strings.ToLower(h[0]), strings.ToLower(h[1]); strings.Contains(value, "forged") || strings.Contains(value, "203.0.113.9") || strings.Contains(value, s.manager) ||
					enforce.IsIdentity(name) && name != "tollgate-principal" && name != "tollgate-assertion" {
					t.Errorf("%q: the service got %q", what, h)
				} else if name == "connection" && strings.Contains(value, "tollgate") {
					t.Errorf("%q: the service, or what is before it, may remove %q", what, h)
				}
			}
		}
		// Without one, and for what alice may not do, it gets nothing.
		for _, request := range []string{
			message("GET", "/orders/7", ordersHost, strings.ReplaceAll(lines, s.manager, "garbage")),
			message("POST", "/orders/7", ordersHost, bearer(s.reader), "Content-Length: 0", lines),
			message("GET", "/other", ordersHost, bearer(s.reader), lines),
			message("GET", "/reports/7", ordersHost, lines),
		} {
			before := s.service.arrived.Load()
			if a := send(t, s.proxy, request); a.status == http.StatusOK || s.service.arrived.Load() != before {
				t.Errorf("%q: %d for %.40q", what, a.status, request)
			}
		}
	}
	trailers := send(t, s.proxy, "POST /orders/7 HTTP/1.1\r\nHost: "+ordersHost+"\r\n"+bearer(s.manager)+"\r\n"+forgedTrailers)
	if got := trailers.arrived; got != nil && (len(got.all("Tollgate-Assertion")) != 1 || len(got.Trailer) > 0 && s.judged != "haproxy") { // which has no way to drop them
		t.Errorf("a trailer: the service got %q and %q", got.Header, got.Trailer)
	}
	if arrived < len(forged)/2 {
		t.Errorf("only %d of %d got to the service at all: what does the test show?", arrived, len(forged))
	}
	t.Logf("%d of %d requests with forged headers arrived, 0 forged headers", arrived, len(forged))
	for _, event := range s.Events(t, "action=access.denied") {
		if event["ip"] != clientIP {
			t.Errorf("an event has the address %s, which a client made up", event["ip"])
		}
	}
}
