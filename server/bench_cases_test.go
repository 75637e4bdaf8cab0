package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// operation is what one case measures.
type operation struct {
	name      string
	procedure string
	messages  func(n int) []proto.Message // n of them, or one that can be sent again
	right     func(proto.Message) error   // what must be answered
	callers   int                         // 0: benchCallers
	public    bool                        // takes no credential
	many      bool                        // each message is sent once
	over      []wire                      // nil: all
	quick     []wire                      // what the quick mode measures

	// request replaces procedure and messages where they are no RPC of the contract.
	request httpRequest
}

// eventsOfACall is how many events a call of RecordEvents has.
const eventsOfACall = 1000

// benchCallers is how many callers call at once.
const benchCallers = 32

// nullOperation is an RPC that does nothing.
var nullOperation = operation{
	name: "null", procedure: nullProcedure, public: true, messages: always(&emptypb.Empty{}),
	right: func(proto.Message) error { return nil },
}

func always(m proto.Message) func(int) []proto.Message {
	return func(int) []proto.Message { return []proto.Message{m} }
}

// operations are what is measured on one server.
func (m *measured) operations() []operation {
	h1, http1 := []wire{overConnect}, []wire{overREST, overConnect}
	decide := func(permission string) *tollgatev1.AuthorizeRequest {
		return &tollgatev1.AuthorizeRequest{
			Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: m.token}, Permission: permission, Resource: "orders/42",
			Context: map[string]string{"tenant": "acme"}, Client: &tollgatev1.Client{Ip: "192.0.2.7"},
		}
	}
	authorize := func(name, permission string, right func(proto.Message) error, quick ...wire) operation {
		return operation{name: name, procedure: tollgatev1connect.RolesServiceAuthorizeProcedure, messages: always(decide(permission)), right: right, quick: quick}
	}
	document := decide("documents:read")
	attributes, _ := structpb.NewStruct(map[string]any{"owner": m.alice})
	document.Resource, document.ResourceAttributes = "documents/plan", attributes
	condition := authorize("Authorize, one condition", "", allowed(0), overConnect)
	condition.messages = always(document)
	cold := operation{
		name: "Authorize, cold: a token and a user not seen before", procedure: tollgatev1connect.RolesServiceAuthorizeProcedure, many: true,
		over: http1, quick: h1, right: allowed(0),
		messages: func(n int) []proto.Message {
			list := make([]proto.Message, n)
			for i, token := range m.cold.take(n) {
				r := decide("orders:read")
				r.Credential = &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: token}
				list[i] = r
			}
			return list
		},
	}
	batch := func(n int, quick ...wire) operation {
		requests := make([]*tollgatev1.AuthorizeRequest, n)
		for i := range requests {
			requests[i] = decide("orders:read")
		}
		return operation{
			name: fmt.Sprintf("BatchAuthorize of %d", n), procedure: tollgatev1connect.RolesServiceBatchAuthorizeProcedure, quick: quick,
			messages: always(&tollgatev1.BatchAuthorizeRequest{Requests: requests}), right: allAllowed(n),
		}
	}
	event := &tollgatev1.RecordEventRequest{
		Actor: &tollgatev1.Actor{UserId: m.alice}, Action: "order.cancel", Outcome: tollgatev1.Outcome_OUTCOME_SUCCESS,
		Resource: "orders/42", Ip: "192.0.2.7", RequestId: "7d0c3a52", Details: map[string]string{"reason": "changed their mind"},
	}
	return []operation{
		{
			name: "Verify", procedure: tollgatev1connect.AuthServiceVerifyProcedure, quick: []wire{overREST, overConnect, overGRPC, overGRPCListener},
			messages: always(&tollgatev1.VerifyRequest{Credential: &tollgatev1.VerifyRequest_AccessToken{AccessToken: m.token}}),
			right: func(answer proto.Message) error {
				return must(answer.(*tollgatev1.VerifyResponse).GetActive(), answer)
			},
		},
		authorize("Authorize", "orders:read", allowed(0), overREST, overConnect, overConnectH2, overGRPC, overGRPCListener),
		authorize("Authorize, one limit", "one:read", allowed(1), overConnect),
		authorize("Authorize, three limits", "three:read", allowed(3), overConnect, overGRPCListener),
		authorize("Authorize, three leased limits", "leased:read", allowed(3)),
		condition,
		authorize("Authorize, refused", "orders:delete", refused, overConnect, overGRPCListener),
		authorize("Authorize, allowed and recorded", "recorded:read", allowed(0), overConnect),
		cold,
		batch(10, overConnect),
		batch(100, overConnect, overGRPCListener),
		{
			name: "CheckLimit", procedure: tollgatev1connect.LimitsServiceCheckLimitProcedure, quick: h1,
			messages: always(&tollgatev1.CheckLimitRequest{Limit: "check", Key: "acme"}),
			right: func(answer proto.Message) error {
				return must(answer.(*tollgatev1.CheckLimitResponse).GetAllowed(), answer)
			},
		},
		{
			name: "RecordEvent", procedure: tollgatev1connect.AuditServiceRecordEventProcedure, quick: h1,
			messages: always(event),
			right:    func(proto.Message) error { return nil },
		},
		{
			name: "RecordEvents, 1,000 in a call, 4 callers", procedure: tollgatev1connect.AuditServiceRecordEventsProcedure, callers: 4, over: h1, quick: h1,
			messages: always(&tollgatev1.RecordEventsRequest{Events: slices.Repeat([]*tollgatev1.RecordEventRequest{event}, eventsOfACall)}),
			right:    func(proto.Message) error { return nil },
		},
		{
			name: "Login", procedure: tollgatev1connect.AuthServiceLoginProcedure, public: true, callers: 2, over: http1, quick: h1,
			messages: always(&tollgatev1.LoginRequest{Username: "alice", Password: benchPassword}),
			right: func(answer proto.Message) error {
				return must(answer.(*tollgatev1.LoginResponse).GetAccessToken() != "", "a token")
			},
		},
		{
			name: "forward auth, by the table of routes", over: []wire{overForwarding}, quick: []wire{overForwarding}, public: true,
			request: httpRequest{"GET", "/v1/forward-auth", []string{
				"X-Tollgate-Key", m.key, "Authorization", "Bearer " + m.token, "X-Forwarded-Method", "GET", "X-Forwarded-Host", "orders.example",
				"X-Forwarded-Uri", "/service-5/orders/42?page=2", "X-Forwarded-For", "192.0.2.7",
			}, nil},
		},
	}
}

// stored are the operations whose cost depends on where things are stored.
func (m *measured) stored() (list []operation) {
	for _, o := range m.operations() {
		o.over, o.quick = []wire{overConnect, overGRPCListener}, []wire{overConnect}
		switch {
		case o.name == "Login":
			continue
		case o.many, o.callers > 0:
			o.over = o.quick
		case strings.HasPrefix(o.name, "Authorize, three "):
			o.quick = o.over
		case !slices.Contains([]string{"Authorize", "Authorize, one limit", "Authorize, refused", "Authorize, allowed and recorded", "CheckLimit", "RecordEvent"}, o.name):
			continue
		}
		list = append(list, o)
	}
	return list
}

// prepare makes the requests of an operation as they go over a wire, n of them
// where none may be sent twice.
func (o operation) prepare(w wire, key string, n int) ([]httpRequest, error) {
	if o.messages == nil {
		return []httpRequest{o.request}, nil
	}
	messages := o.messages(n)
	requests := make([]httpRequest, len(messages))
	for i, m := range messages {
		var err error
		if requests[i], err = w.prepare(o.procedure, m); err != nil {
			return nil, err
		}
		if !o.public {
			requests[i].header = append(requests[i].header, "Authorization", "Bearer "+key)
		}
	}
	return requests, nil
}

// check judges the answer to one of the operation's requests.
func (o operation) check(w wire, res *http.Response, body []byte) error {
	if o.messages == nil {
		return w.read(res, body, nil)
	}
	answer := proto.Message(&emptypb.Empty{})
	if o.procedure != nullProcedure {
		var err error
		if answer, err = answerOf(o.procedure); err != nil {
			return err
		}
	}
	if err := w.read(res, body, answer); err != nil {
		return err
	}
	return o.right(answer)
}

func must(right bool, answer any) error {
	if !right {
		return fmt.Errorf("not the answer that was meant: %v", answer)
	}
	return nil
}

// allowed wants a decision that counted against this many limits.
func allowed(limits int) func(proto.Message) error {
	return func(answer proto.Message) error {
		a := answer.(*tollgatev1.AuthorizeResponse)
		return must(a.GetAllowed() && len(a.GetLimits()) == limits, a)
	}
}

func refused(answer proto.Message) error {
	a := answer.(*tollgatev1.AuthorizeResponse)
	return must(!a.GetAllowed() && a.GetReason() == tollgatev1.Reason_REASON_PERMISSION_MISSING && a.GetPrincipal() != nil, a)
}

func allAllowed(n int) func(proto.Message) error {
	return func(answer proto.Message) error {
		a := answer.(*tollgatev1.BatchAuthorizeResponse)
		right := len(a.GetResponses()) == n
		for _, r := range a.GetResponses() {
			right = right && r.GetAllowed()
		}
		return must(right, a)
	}
}
