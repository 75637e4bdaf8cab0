package access

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "write the schema instead of comparing it")

type object = map[string]any

// TestSchemaIsFresh compares access.schema.json with the contract's OpenAPI schemas, of
// which it is made, or, with -update, writes it.
func TestSchemaIsFresh(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../../gen/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Components struct{ Schemas map[string]object }
	}
	if err := yaml.Unmarshal(content, &api); err != nil {
		t.Fatal(err)
	}
	m := maker{api.Components.Schemas, object{}}
	list := func(d protoreflect.MessageDescriptor, what string) object {
		return object{"type": "array", "description": what, "items": m.ref(d)}
	}
	hold := object{"anyOf": []any{
		object{"type": "string"},
		object{
			"type": "object", "additionalProperties": false, "required": []string{"role"},
			"properties": object{"role": object{"type": "string"}, "expiresAt": object{"type": "string", "format": "date-time"}},
		},
	}}
	root := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Access as code of a Tollgate server",
		"type": "object", "additionalProperties": false,
		"properties": object{
			"roles":      list((&tollgatev1.CreateRoleRequest{}).ProtoReflect().Descriptor(), "Named sets of permissions."),
			"limits":     list((&tollgatev1.CreateLimitRequest{}).ProtoReflect().Descriptor(), "How often, for whom."),
			"routes":     list((&tollgatev1.CreateRouteRequest{}).ProtoReflect().Descriptor(), "What requests to protected services need."),
			"recordings": list((&tollgatev1.CreateRecordingRequest{}).ProtoReflect().Descriptor(), "Which allowed calls are recorded."),
			"assignments": object{"type": "array", "description": "Who holds which roles.", "items": object{
				"type": "object", "additionalProperties": false, "required": []string{"user"},
				"properties": object{
					"user":  object{"type": "string", "description": "The user's name."},
					"roles": object{"type": "array", "description": "The roles, with an end or without.", "items": hold},
				},
			}},
		},
		"$defs": m.defs,
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		t.Fatal(err)
	}
	switch {
	case *update:
		if err := os.WriteFile("access.schema.json", out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	case out.String() != Schema:
		t.Error("access.schema.json is not what the contract says; run: make generate")
	}
}

// maker makes JSON schemas of messages as files have them.
type maker struct {
	api  map[string]object
	defs object
}

func (m maker) ref(d protoreflect.MessageDescriptor) object {
	name := string(d.Name())
	if _, made := m.defs[name]; !made {
		m.defs[name] = object{} // it may be about itself
		m.defs[name] = m.message(d)
	}
	return object{"$ref": "#/$defs/" + name}
}

func (m maker) message(d protoreflect.MessageDescriptor) object {
	from := m.api[string(d.FullName())]
	properties, all := object{}, from["properties"].(object)
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		property := m.value(field, all[field.JSONName()].(object))
		if text, ok := all[field.JSONName()].(object)["description"].(string); ok {
			property["description"] = strings.Join(strings.Fields(text), " ")
		}
		properties[field.JSONName()] = property
	}
	made := object{"type": "object", "additionalProperties": false, "properties": properties}
	if required, ok := from["required"].([]any); ok {
		var names []any
		for _, name := range required {
			if name != "period" { // a calendar limit has none
				names = append(names, name)
			}
		}
		made["required"] = names
	}
	return made
}

// bounds are the keywords that are taken as they are.
var bounds = []string{"type", "minLength", "maxLength", "pattern", "maxItems", "minItems", "uniqueItems", "minimum", "maximum", "maxProperties"}

func (m maker) value(field protoreflect.FieldDescriptor, from object) object {
	switch {
	case field.IsMap():
		return object{"type": "object", "additionalProperties": object{"type": "string"}}
	case field.IsList() && field.Message() != nil:
		return with(object{"type": "array", "items": m.ref(field.Message())}, from, "maxItems")
	case field.IsList():
		items, _ := from["items"].(object)
		return with(object{"type": "array", "items": with(object{}, items, bounds...)}, from, "maxItems")
	case field.Enum() != nil:
		var names []any
		for _, name := range protoyaml.EnumNames(field.Enum()) {
			names = append(names, name)
		}
		for i := range field.Enum().Values().Len() {
			if v := field.Enum().Values().Get(i); v.Number() != 0 {
				names = append(names, string(v.Name()))
			}
		}
		return object{"enum": names}
	case field.Message() != nil: // a duration
		return object{"type": "string", "pattern": `^([0-9]+d|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`}
	case field.Kind() == protoreflect.Int64Kind:
		return with(object{"type": "integer"}, from, "minimum", "maximum")
	}
	return with(object{}, from, bounds...)
}

func with(made, from object, keywords ...string) object {
	for _, keyword := range slices.Sorted(slices.Values(keywords)) {
		if value, ok := from[keyword]; ok && made[keyword] == nil {
			made[keyword] = value
		}
	}
	return made
}
