package gateway

// For the tests of package gateway_test, which start a whole server.
var (
	GoodAddress  = goodAddress
	CheckAddress = checkAddress
)
