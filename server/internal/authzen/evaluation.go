package authzen

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// maxEvaluations is how many questions one call may ask.
const maxEvaluations = 100

// The semantics of several evaluations (§7.1.2.1).
const (
	executeAll  = "execute_all"
	firstDeny   = "deny_on_first_deny"
	firstPermit = "permit_on_first_permit"
)

// answer is a decision (§6.2).
type answer struct {
	Decision bool          `json:"decision"`
	Context  answerContext `json:"context"`
}

// answerContext says why, or what is wrong with the question.
type answerContext struct {
	Reason   string     `json:"reason,omitempty"`   // by the contract's enum Reason
	Revision int64      `json:"revision,omitempty"` // the decision is at least as new
	Error    *itemError `json:"error,omitempty"`
}

type itemError struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

// answers are several decisions (§7.2).
type answers struct {
	Evaluations []answer `json:"evaluations"`
}

// users are those that one call has found, by what they were called.
type users map[string]auth.Credential

// evaluation is the Access Evaluation API.
func (h *Handler) evaluation(ctx context.Context, body object) (any, error) {
	return h.decide(ctx, body, users{})
}

// evaluations is the Access Evaluations API. Without any it is the other one (§7.1).
func (h *Handler) evaluations(ctx context.Context, body object) (any, error) {
	semantic, err := readSemantic(body)
	if err != nil {
		return nil, err
	}
	value, there := body["evaluations"]
	list, ok := value.([]any)
	switch {
	case there && !ok:
		return nil, fault.Field("evaluations", "must be a list")
	case len(list) > maxEvaluations:
		return nil, fault.Field("evaluations", "must be at most %d; send more in another call", maxEvaluations)
	case len(list) == 0:
		return h.evaluation(ctx, body)
	}
	defaults := object{}
	for _, name := range []string{subjectMember, actionMember, resourceMember, contextMember} {
		if defaults[name], err = readObject(body, "", name); err != nil {
			return nil, err
		}
		if _, there := body[name]; !there {
			delete(defaults, name)
		}
	}
	found, all := users{}, answers{Evaluations: make([]answer, 0, len(list))}
	for _, item := range list {
		a, err := h.item(ctx, defaults, item, found)
		if err != nil {
			return nil, err
		}
		all.Evaluations = append(all.Evaluations, a)
		if semantic == firstDeny && !a.Decision || semantic == firstPermit && a.Decision {
			break
		}
	}
	return all, nil
}

func readSemantic(body object) (string, error) {
	options, err := readObject(body, "", "options")
	if err != nil {
		return "", err
	}
	value, there := options["evaluations_semantic"]
	if !there {
		return executeAll, nil
	}
	switch value {
	case executeAll, firstDeny, firstPermit:
		return value.(string), nil
	default:
		return "", fault.Field("options.evaluations_semantic", "must be %s, %s or %s", executeAll, firstDeny, firstPermit)
	}
}

// item answers one of several questions. What it has of its own replaces the default as
// a whole. What is wrong with it is its own answer.
func (h *Handler) item(ctx context.Context, defaults object, item any, found users) (answer, error) {
	own, ok := item.(object)
	if !ok {
		return wrong(fault.New(fault.Invalid, "INVALID_FIELD", "an evaluation must be an object")), nil
	}
	whole := maps.Clone(defaults)
	maps.Copy(whole, own)
	a, err := h.decide(ctx, whole, found)
	if f, known := errors.AsType[*fault.Error](err); known && f.Kind == fault.Invalid {
		return wrong(f), nil
	}
	return a, err
}

func wrong(f *fault.Error) answer {
	return answer{Context: answerContext{Error: &itemError{http.StatusBadRequest, f.Message}}}
}

// decide answers one question.
func (h *Handler) decide(ctx context.Context, body object, found users) (answer, error) {
	q, err := readQuestion(body, "")
	if err != nil {
		return answer{}, err
	}
	who, err := h.credential(ctx, q.subject, found)
	if err != nil {
		return answer{}, err
	}
	r := q.request(ctx)
	r.Credential = who
	d, err := h.Decisions.Decide(ctx, r)
	if err != nil {
		return answer{}, err
	}
	return answer{Decision: d.Allowed, Context: answerContext{Reason: strings.ToUpper(string(d.Reason)), Revision: d.Revision}}, nil
}

// nobody is the credential of a subject that there is not: no user has the id.
var nobody = auth.Credential{UserID: "nobody"}

// credential is the subject, whom the asking service has authenticated.
func (h *Handler) credential(ctx context.Context, subject entity, found users) (auth.Credential, error) {
	if !isUser(subject.kind) {
		return nobody, nil
	}
	if known, ok := found[subject.id]; ok {
		return known, nil
	}
	id, ok, err := h.FindUser(ctx, subject.id)
	if err != nil {
		return auth.Credential{}, err
	}
	found[subject.id] = nobody
	if ok {
		found[subject.id] = auth.Credential{UserID: id}
	}
	return found[subject.id], nil
}

// isUser says whether subjects of a type are Tollgate's users.
func isUser(kind string) bool { return kind == "user" || kind == "identity" }

// request is the call that the question is about, but for its subject. It counts
// nothing. Its address is not known: the asking service's is another one.
func (q *question) request(ctx context.Context) decision.Request {
	rule := decision.Rule{Action: notAPermission} // lets nobody pass
	if isKind(q.resource.kind) && isSegment(q.action.id) {
		rule = decision.Rule{Permission: q.resource.kind + ":" + q.action.id}
	}
	return decision.Request{
		Rule: rule, Resource: q.resource.kind + "/" + q.resource.id, RequestID: caller.From(ctx).RequestID,
		PrincipalAttributes: q.subject.properties, ActionProperties: q.action.properties,
		ResourceAttributes: q.resource.properties, Facts: q.context,
		Recheck: true, Source: decision.SourceAuthZEN,
	}
}

// notAPermission is what the record has for names that are no permission's.
const notAPermission = "not a permission"

// isKind says whether resources can be of a type. Tollgate's own are asked about by
// nobody, as by Authorize.
func isKind(kind string) bool { return isSegment(kind) && !perm.Own(kind+":") }

// isSegment says whether a text can be one segment of a permission.
func isSegment(text string) bool {
	return perm.ValidPermission(text) == nil && !strings.Contains(text, ":")
}
