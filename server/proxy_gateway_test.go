package main_test

import (
	"strings"
	"testing"
)

// TestGateway judges the gateway as if it were another's proxy.
func TestGateway(t *testing.T) {
	t.Parallel()
	service := newEcho(t)
	s := protect(t, "gateway", service,
		"TOLLGATE_GATEWAY_LISTEN=127.0.0.1:0", "TOLLGATE_GATEWAY_UPSTREAM=http://"+service.address, "TOLLGATE_GATEWAY_AUDIENCE=orders")
	s.proxy = strings.TrimPrefix(gatewayURL(t, s.tollgate), "http://")
	s.route(t, "reports", "/reports/{rest...}", object{"permission": "reports:read"})
	s.judge(t, func(during *testing.T, address string) string {
		upstream := func(to string) {
			for _, route := range []string{"read", "write"} {
				s.Patch(t, "/v1/routes/"+route, object{"upstream": to})
			}
		}
		upstream("http://" + address)
		during.Cleanup(func() { upstream("") })
		return s.proxy
	})
}
