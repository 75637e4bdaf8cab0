package fault

import (
	"errors"
	"math"
	"strconv"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the domain of Tollgate's google.rpc.ErrorInfo.
const Domain = "tollgate.dev"

// Connect is the error in the form that every protocol sends: the code, the
// message, and as details a google.rpc.ErrorInfo with the reason and the
// request id, a BadRequest for wrong fields and a RetryInfo when waiting helps.
// The headers Retry-After and WWW-Authenticate are set where they apply (RFC
// 9110 §10.2.3 and §11.6.1).
func Connect(f *Error, requestID string) *connect.Error {
	out := connect.NewError(f.Kind.Code(), errors.New(f.Message))
	info := &errdetails.ErrorInfo{Reason: f.Reason, Domain: Domain}
	if requestID != "" {
		info.Metadata = map[string]string{"request_id": requestID}
	}
	add(out, info)
	if len(f.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range f.Violations {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Message})
		}
		add(out, bad)
	}
	if f.RetryAfter > 0 {
		add(out, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)})
		out.Meta().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(f.RetryAfter.Seconds())), 10))
	}
	if f.Kind == Unauthenticated {
		challenge := f.Challenge
		switch {
		case challenge != "":
		case f.Reason == "CREDENTIAL_MISSING":
			challenge = "Bearer"
		default:
			challenge = `Bearer error="invalid_token"` // RFC 6750 §3.1
		}
		out.Meta().Set("WWW-Authenticate", challenge)
	}
	return out
}

// KindOf is the kind that fits a Connect code, for errors that Connect or the
// REST transcoder made by themselves.
func KindOf(code connect.Code) Kind {
	for kind, row := range kinds {
		if row.code == code && Kind(kind) != TooLarge {
			return Kind(kind)
		}
	}
	if code == connect.CodeOutOfRange {
		return Invalid
	}
	return Internal
}

func add(out *connect.Error, message proto.Message) {
	detail, err := connect.NewErrorDetail(message)
	if err != nil {
		return // these messages always encode
	}
	out.AddDetail(detail)
}
