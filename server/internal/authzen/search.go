package authzen

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"math"

	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// found is a page of what a search finds (§8.2). The page comes first, so that who
// reads a stream knows before the results whether there are more (§8.3).
type found struct {
	Page    foundPage `json:"page"`
	Results []result  `json:"results"`
}

type foundPage struct {
	Next  string `json:"next_token"` // empty: there are no more
	Count int    `json:"count"`
}

// result is an entity: with a type and an id, or an action's name.
type result struct {
	Type string `json:"type,omitempty"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// nothing is found of what there is not (§8.3).
var nothing = found{Results: []result{}}

// pageAsked is the page that is asked for. The token is bound to everything else that
// the request says.
type pageAsked struct {
	list, token string
	size        int32
}

// subjects is the Subject Search API: the users who may, under their names.
func (h *Handler) subjects(ctx context.Context, body object) (any, error) {
	q, p, err := readSearch(body, subjectMember)
	if err != nil {
		return nil, err
	}
	r := q.request(ctx)
	if !isUser(q.subject.kind) || r.Rule.Permission == "" {
		return nothing, nil
	}
	list, next, err := h.Decisions.Subjects(ctx, h.Pages, p.list, r, p.size, p.token)
	return answered(list, next, err, func(m roles.Member) result { return result{Type: q.subject.kind, ID: m.Username} })
}

// resources is the Resource Search API: the registered resources about which the
// subject may.
func (h *Handler) resources(ctx context.Context, body object) (any, error) {
	q, p, err := readSearch(body, resourceMember)
	if err != nil {
		return nil, err
	}
	r := q.request(ctx)
	if r.Rule.Permission == "" {
		return nothing, nil
	}
	if r.Credential, err = h.credential(ctx, q.subject, users{}); err != nil {
		return nil, err
	}
	list, next, err := h.Decisions.Resources(ctx, h.Pages, p.list, r, q.resource.kind, p.size, p.token, h.Resources)
	return answered(list, next, err, func(id string) result { return result{Type: q.resource.kind, ID: id} })
}

// actions is the Action Search API: the actions that some role names and the subject
// may.
func (h *Handler) actions(ctx context.Context, body object) (any, error) {
	q, p, err := readSearch(body, actionMember)
	if err != nil {
		return nil, err
	}
	if !isKind(q.resource.kind) {
		return nothing, nil
	}
	r := q.request(ctx)
	r.Rule = decision.Rule{}
	if r.Credential, err = h.credential(ctx, q.subject, users{}); err != nil {
		return nil, err
	}
	list, next, err := h.Decisions.Actions(ctx, h.Pages, p.list, r, q.resource.kind, p.size, p.token)
	return answered(list, next, err, func(name string) result { return result{Name: name} })
}

func readSearch(body object, searched string) (question, pageAsked, error) {
	q, err := readQuestion(body, searched)
	if err != nil {
		return question{}, pageAsked{}, err
	}
	p, err := readPage(body, searched)
	return q, p, err
}

func readPage(body object, searched string) (p pageAsked, err error) {
	page, err := readObject(body, "", "page")
	if err != nil {
		return pageAsked{}, err
	}
	if value, there := page["token"]; there {
		var ok bool
		if p.token, ok = value.(string); !ok {
			return pageAsked{}, fault.Field("page.token", "must be a text")
		}
	}
	if value, there := page["limit"]; there {
		limit, ok := value.(float64)
		if !ok || limit < 0 || limit != math.Trunc(limit) {
			return pageAsked{}, fault.Field("page.limit", "must be a whole number from 0 on")
		}
		p.size = int32(min(limit, math.MaxInt32))
	}
	rest := maps.Clone(body)
	delete(rest, "page")
	text, err := json.Marshal(rest) // sorted by name
	if err != nil {
		return pageAsked{}, err
	}
	sum := sha256.Sum256(text)
	p.list = "authzen " + searched + " " + hex.EncodeToString(sum[:])
	return p, nil
}

// answered is the answer of a search, or its error in the words of this API.
func answered[T any](list []T, next string, err error, entity func(T) result) (any, error) {
	if err != nil {
		if f, ok := errors.AsType[*fault.Error](err); ok && len(f.Violations) == 1 && f.Violations[0].Field == "pageToken" {
			return nil, fault.Field("page.token", "%s", f.Violations[0].Message)
		}
		return nil, err
	}
	f := found{Page: foundPage{next, len(list)}, Results: make([]result, len(list))}
	for i, item := range list {
		f.Results[i] = entity(item)
	}
	return f, nil
}
