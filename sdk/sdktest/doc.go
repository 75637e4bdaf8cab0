// Package sdktest is a Tollgate in memory, for the tests of services that ask
// one. A test sets its users, roles and limits; package tollgate then gets what a
// real server gives: decisions, signed tokens and their public keys, sessions,
// second factors, and the feed of revocations.
//
//	server := sdktest.NewServer()
//	defer server.Close()
//	server.SetRole("clerk", "orders:read")
//	server.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
//
//	handler := newHandler(server.Client()) // your service
//	request.Header.Set("Authorization", "Bearer "+server.Token("alice"))
//
// A [Server] stores nothing, hashes nothing, and does not check what the service
// under test may do. Users, roles and limits are set by its methods, not over the
// network.
package sdktest
