package cli

import (
	"bytes"
	"encoding/json"

	"github.com/tollgatehq/tollgate/server/internal/cli/access"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
	"google.golang.org/protobuf/proto"
)

// plannedChanges is a plan for programs.
type plannedChanges struct {
	Changes []plannedChange `json:"changes"` // in the order in which apply makes them
	Create  int             `json:"create"`  // how many of them
	Change  int             `json:"change"`
	Remove  int             `json:"remove"`
}

type plannedChange struct {
	Action string          `json:"action"` // create, change or remove
	Kind   string          `json:"kind"`   // role, limit, route, recording or assignment
	Name   string          `json:"name"`   // of an assignment: USER has ROLE
	Fields []string        `json:"fields,omitempty"`
	Users  *int            `json:"users,omitempty"`  // of a removed role: how many hold it
	Before json.RawMessage `json:"before,omitempty"` // the API's request that creates it
	After  json.RawMessage `json:"after,omitempty"`
}

// encodePlan is a plan as JSON. Objects are the API's JSON.
func encodePlan(steps []access.Step) ([]byte, error) {
	all := plannedChanges{Changes: make([]plannedChange, 0, len(steps))}
	for _, step := range steps {
		change := plannedChange{Kind: step.Kind.Noun(), Name: step.Name}
		before, after := step.Before, step.Spec
		switch {
		case step.Remove:
			change.Action, after = "remove", nil
			all.Remove++
			if step.Kind == access.Roles {
				change.Users = new(step.Holds)
			}
		case before == nil:
			change.Action = "create"
			all.Create++
		default:
			change.Action = "change"
			all.Change++
			for _, c := range step.Changes() {
				change.Fields = append(change.Fields, c.Field.JSONName())
			}
		}
		for _, side := range []struct {
			object proto.Message
			text   *json.RawMessage
		}{{before, &change.Before}, {after, &change.After}} {
			if side.object == nil {
				continue
			}
			text, err := encode(side.object)
			if err != nil {
				return nil, err
			}
			*side.text = text
		}
		all.Changes = append(all.Changes, change)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(all); err != nil {
		return nil, err
	}
	return terminal.JSON(out.Bytes()), nil
}
