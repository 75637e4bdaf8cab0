package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
)

// Apply takes the steps of a plan. Each is one call, which is one transaction: whenever
// it ends, every object is as it was or as it should be, and a new plan has what is
// left. done is told of each step.
func Apply(ctx context.Context, server *Server, steps []Step, done func(Step)) error {
	var waiting []Step // routes that another is in the way of
	for i, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if step.Kind != Routes && len(waiting) > 0 {
			// Its removals, which may clear the way, come first.
			if err := settle(ctx, server, &waiting, steps[i:], done); err != nil {
				return err
			}
		}
		err := take(ctx, server, step, done)
		if step.Kind == Routes && !step.Remove && conflicts(err) {
			waiting = append(waiting, step)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.Object, err)
		}
	}
	return settle(ctx, server, &waiting, nil, done)
}

// settle takes the steps of routes that others are in the way of: after the removals
// that the plan has, and where two change places, by removing one of them first. What
// only it matched is refused meanwhile.
func settle(ctx context.Context, server *Server, waiting *[]Step, later []Step, done func(Step)) error {
	for _, step := range later {
		if step.Kind == Routes && step.Remove {
			if err := take(ctx, server, step, done); err != nil {
				return fmt.Errorf("%s: %w", step.Object, err)
			}
		}
	}
	for len(*waiting) > 0 {
		var left []Step
		var last error
		for _, step := range *waiting {
			err := take(ctx, server, step, done)
			switch {
			case conflicts(err):
				left, last = append(left, step), err
			case err != nil:
				return fmt.Errorf("%s: %w", step.Object, err)
			}
		}
		if len(left) == len(*waiting) {
			at := slices.IndexFunc(left, func(s Step) bool { return s.Before != nil })
			if at < 0 || len(left) < 2 {
				return fmt.Errorf("%s: %w", left[0].Object, last)
			}
			if err := server.remove(ctx, left[at].Object); err != nil {
				return fmt.Errorf("%s: %w", left[at].Object, err)
			}
			left[at].Before = nil // to be created again, after the others
			left = append(slices.Delete(slices.Clone(left), at, at+1), left[at])
		}
		*waiting = left
	}
	return nil
}

// take takes a step, unless somebody changed the object since the plan was made, or
// took the step already.
func take(ctx context.Context, server *Server, step Step, done func(Step)) error {
	now, err := server.get(ctx, step.Object)
	switch {
	case err != nil:
		return err
	case step.Remove && now == nil:
		return nil
	case !step.Remove && now != nil && len(protoyaml.Changes(now, step.Spec)) == 0:
		done(step)
		return nil
	case !same(now, step.Before):
		return errors.New("somebody changed it since the plan was made; nothing was done to it: run the command again")
	case step.Remove:
		if err := server.remove(ctx, step.Object); err != nil {
			return err
		}
		done(step)
		return nil
	}
	made, err := server.put(ctx, step.Object, step.Before == nil)
	if err != nil {
		return err
	}
	if now, err = server.spec(ctx, made); err != nil {
		return err
	}
	for _, c := range protoyaml.Changes(now, step.Spec) {
		return fmt.Errorf("the server took it, but with %s otherwise: %s; write it in the file as the server has it", c.Field.JSONName(), show(c.Field, c.Before))
	}
	done(step)
	return nil
}

// same says whether two objects, which may be missing, are the same.
func same(a, b proto.Message) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return len(protoyaml.Changes(a, b)) == 0
}

// conflicts says whether another route is in the way.
func conflicts(err error) bool {
	answered, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return false
	}
	for _, d := range answered.Details() {
		if value, err := d.Value(); err == nil {
			if info, ok := value.(*errdetails.ErrorInfo); ok && info.GetReason() == "ROUTE_CONFLICT" {
				return true
			}
		}
	}
	return false
}
