package authzen

import (
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// entity is a subject, an action or a resource (§5). An action has no type and its name
// for an id.
type entity struct {
	kind, id   string
	properties map[string]any
}

// question is one access evaluation (§6.1).
type question struct {
	subject, action, resource entity
	context                   map[string]any
}

// The members of a question.
const (
	subjectMember  = "subject"
	actionMember   = "action"
	resourceMember = "resource"
	contextMember  = "context"
)

// readQuestion reads a question. What is searched for, by its member's name, is what the
// question leaves open: a subject or resource has no id, and an action is not there.
// Both are ignored when they are (§8.4 to §8.6).
func readQuestion(from object, searched string) (q question, err error) {
	id := func(member, name string) string {
		if member == searched {
			return ""
		}
		return name
	}
	if q.subject, err = readEntity(from, subjectMember, "type", id(subjectMember, "id")); err != nil {
		return question{}, err
	}
	if searched != actionMember {
		if q.action, err = readEntity(from, actionMember, "", "name"); err != nil {
			return question{}, err
		}
	}
	if q.resource, err = readEntity(from, resourceMember, "type", id(resourceMember, "id")); err != nil {
		return question{}, err
	}
	q.context, err = readObject(from, "", contextMember)
	return q, err
}

// readEntity reads a member of from. typeName and idName are what its texts are called;
// one without a name is not read.
func readEntity(from object, name, typeName, idName string) (e entity, err error) {
	value, there := from[name]
	if !there {
		return entity{}, fault.Field(name, "is missing")
	}
	members, ok := value.(object)
	if !ok {
		return entity{}, fault.Field(name, "must be an object")
	}
	if e.kind, err = readText(members, name, typeName); err != nil {
		return entity{}, err
	}
	if e.id, err = readText(members, name, idName); err != nil {
		return entity{}, err
	}
	e.properties, err = readObject(members, name+".", "properties")
	return e, err
}

func readText(from object, of, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	value, there := from[name]
	if !there {
		return "", fault.Field(of+"."+name, "is missing")
	}
	text, ok := value.(string)
	if !ok {
		return "", fault.Field(of+"."+name, "must be a text")
	}
	return text, nil
}

// readObject reads an object that may be left out.
func readObject(from object, of, name string) (object, error) {
	value, there := from[name]
	if !there {
		return nil, nil
	}
	members, ok := value.(object)
	if !ok {
		return nil, fault.Field(of+name, "must be an object")
	}
	return members, nil
}
