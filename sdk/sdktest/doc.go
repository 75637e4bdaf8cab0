// Package sdktest is a Tollgate in memory, for the tests of services that ask
// one. Tests say who there is and what they may do; package tollgate then meets
// what it meets in production: decisions, signed tokens and their public keys,
// sessions that refresh, and the feed of revocations.
//
//	server := sdktest.NewServer()
//	defer tollgate.Close()
//	tollgate.SetRole("clerk", "orders:read")
//	tollgate.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
//
//	handler := newHandler(tollgate.Client()) // your service
//	request.Header.Set("Authorization", "Bearer "+tollgate.Token("alice"))
//
// It stores nothing, hashes nothing, and does not check what its callers
// themselves may ask. Users, roles and limits are made by its methods, not over
// the network.
package sdktest
