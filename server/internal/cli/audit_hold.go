package cli

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
)

type auditHold struct {
	List   auditHoldList   `cmd:"" help:"List holds."`
	Create auditHoldCreate `cmd:"" help:"Keep events until the hold is deleted: those that match every flag given."`
	Delete auditHoldDelete `cmd:"" help:"Delete a hold. What is older than events are kept goes within the hour."`
}

type auditHoldList struct{ limited }

func (a auditHoldList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := paging.All(a.Limit, func(size int32, token string) (*tollgatev1.ListHoldsResponse, error) {
		return server.audit.ListHolds(ctx, &tollgatev1.ListHoldsRequest{PageSize: size, PageToken: token})
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"NAME", "ACTOR", "ACTION", "RESOURCE", "AFTER", "BEFORE", "CREATED", "BY", "REASON"}
		for _, h := range res.GetHolds() {
			t.row(h.GetName(), h.GetActor(), h.GetAction(), h.GetResource(), when(h.GetAfter()), when(h.GetBefore()),
				when(h.GetCreatedAt()), h.GetCreatedBy(), h.GetReason())
		}
	})
}

type auditHoldCreate struct {
	Name     string `arg:"" help:"The hold's name: case-2026-17."`
	Actor    string `help:"What this user did: an id, or a name." placeholder:"USER"`
	Action   string `help:"This action: role.assign; auth.* for all that begin so." placeholder:"ACTION"`
	Resource string `help:"What was done to this: roles/clerk; orders/* for all that begin so." placeholder:"RESOURCE"`
	After    string `help:"At or after this time: 2026-08-03T09:00:00Z, or 24h, 7d ago." placeholder:"TIME"`
	Before   string `help:"Before this time." placeholder:"TIME"`
	Reason   string `help:"Why." placeholder:"TEXT"`
}

func (a auditHoldCreate) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := &tollgatev1.CreateHoldRequest{Name: a.Name, Actor: a.Actor, Action: a.Action, Resource: a.Resource, Reason: a.Reason}
	if req.After, err = moment(e.now(), "--after", a.After); err != nil {
		return err
	}
	if req.Before, err = moment(e.now(), "--before", a.Before); err != nil {
		return err
	}
	res, err := server.audit.CreateHold(ctx, req)
	if err != nil {
		return err
	}
	e.say("created hold %s", res.GetHold().GetName())
	return e.asked(res)
}

type auditHoldDelete struct {
	confirmed

	Name string `arg:"" help:"The hold's name."`
}

func (a auditHoldDelete) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	if err := a.confirm(ctx, e, "delete the hold %s: events that only it keeps are deleted within the hour, for good", a.Name); err != nil {
		return err
	}
	res, err := server.audit.DeleteHold(ctx, &tollgatev1.DeleteHoldRequest{Name: a.Name})
	if err != nil {
		return err
	}
	e.say("deleted hold %s", a.Name)
	return e.asked(res)
}
