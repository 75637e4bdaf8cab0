package conditions_test

import (
	"context"
	"fmt"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// Tollgate decides the first call, and tells who alice is; the second is decided here.
func ExampleEvaluator() {
	server := sdktest.NewServer(sdktest.WithConditions(conditions.Evaluator())) // your Tollgate
	defer server.Close()
	server.SetRole("author")
	server.SetGrants("author", sdktest.Grant{Permission: "docs:*", Condition: `context.tenant == "acme"`})
	server.SetUser(sdktest.User{Name: "alice", Roles: []string{"author"}})

	client := server.Client(tollgate.WithLocalDecisions(tollgate.LocalConfig{Conditions: conditions.Evaluator()}))
	defer client.Close()
	if err := client.WaitPolicy(context.Background(), 0); err != nil {
		fmt.Println(err)
	}
	token := server.Token("alice")
	for range 2 {
		d, err := client.Authorize(context.Background(), tollgate.AuthorizeRequest{
			Credential: token, Permission: "docs:read", Context: map[string]string{"tenant": "acme"},
		})
		if err != nil {
			fmt.Println(err)
		}
		fmt.Println(d.Allowed, d.Grant)
	}
	// Output:
	// true author: allow docs:* if context.tenant == "acme"
	// true author: allow docs:* if context.tenant == "acme"
}
