package main

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"go.yaml.in/yaml/v3"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// TestOpenAPI compares gen/openapi.yaml with the guards and rules in the protos,
// or, with -update, adds them: the plugin that makes the file knows no guards.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	const path = "../gen/openapi.yaml"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	backendtest.Must(t, yaml.Unmarshal(content, &document))
	root := document.Content[0]
	requests, responses := messages{}, messages{}
	for procedure, method := range contract.Methods() {
		requests.add(method.Input())
		responses.add(method.Output())
		if method.IsStreamingServer() {
			continue
		}
		rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule).ProtoReflect()
		verb := rule.WhichOneof(rule.Descriptor().Oneofs().ByName("pattern"))
		operation := child(root, "paths", rule.Get(verb).String(), string(verb.Name()))
		if operation == nil {
			t.Errorf("%s: there is no %s %s", procedure, verb.Name(), rule.Get(verb))
			continue
		}
		setAccess(operation, method)
		setChild(t, child(operation, "responses"), "default", map[string]string{"$ref": "#/components/responses/Error"})
		setRequired(t, child(operation, "requestBody", "content", "application/json", "schema"), refusedWithout(t, method.Input()))
	}
	schemas := child(root, "components", "schemas")
	for _, schema := range schemas.Content {
		closeAllOf(schema)
	}
	for name, message := range requests {
		setRequired(t, child(schemas, string(name)), refusedWithout(t, message))
	}
	for name, message := range responses {
		if requests[name] == nil {
			setRequired(t, child(schemas, string(name)), alwaysSent(message))
		}
	}
	var want bytes.Buffer
	encoder := yaml.NewEncoder(&want)
	encoder.SetIndent(2)
	backendtest.Must(t, encoder.Encode(&document))
	checkFile(t, path, string(content), want.String(), "make generate")
}

// setAccess writes who may call into an operation.
func setAccess(operation *yaml.Node, method protoreflect.MethodDescriptor) {
	guard, _ := proto.GetExtension(method.Options(), tollgatev1.E_Guard).(*tollgatev1.Guard)
	var access string
	switch {
	case guard.GetPublic():
		access = "no credential needed"
		setNode(operation, "security", &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle})
	case guard.GetAuthenticated():
		access = "any valid credential"
	case guard.GetSelfOnly() != "":
		access = "only the user with this id, signed in"
	default:
		access = "permission `" + guard.GetPermission() + "`"
	}
	if guard.GetSelf() != "" {
		access += "; a signed-in user needs none where the id is their own"
	}
	description := child(operation, "description")
	text, _, _ := strings.Cut(description.Value, "\n\nAccess: ")
	description.SetString(text + "\n\nAccess: " + access + ".")
}

type messages map[protoreflect.FullName]protoreflect.MessageDescriptor

// add adds a message and those in its fields.
func (m messages) add(message protoreflect.MessageDescriptor) {
	if message == nil || message.ParentFile().Package() != "tollgate.v1" || m[message.FullName()] != nil {
		return
	}
	m[message.FullName()] = message
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if field.IsMap() {
			field = field.MapValue()
		}
		m.add(field.Message())
	}
}

// refusedWithout returns the fields, by their JSON names, without which
// validation refuses a message.
func refusedWithout(t *testing.T, message protoreflect.MessageDescriptor) []string {
	t.Helper()
	err := protovalidate.Validate(dynamicpb.NewMessage(message))
	var invalid *protovalidate.ValidationError
	if err != nil && !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	var names []string
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if invalid != nil && slices.ContainsFunc(invalid.Violations, func(v *protovalidate.Violation) bool {
			path := v.Proto.GetField().GetElements()
			return len(path) == 1 && path[0].GetFieldName() == string(field.Name())
		}) {
			names = append(names, field.JSONName())
		}
	}
	return names
}

// alwaysSent returns the fields, by their JSON names, that are in every response:
// the server writes those that have their zero value, too.
func alwaysSent(message protoreflect.MessageDescriptor) []string {
	var names []string
	for i := range message.Fields().Len() {
		if field := message.Fields().Get(i); !field.HasPresence() {
			names = append(names, field.JSONName())
		}
	}
	return names
}

// setRequired makes those of names required that a schema has as properties.
func setRequired(t *testing.T, schema *yaml.Node, names []string) {
	t.Helper()
	properties := child(schema, "properties")
	names = slices.DeleteFunc(names, func(name string) bool { return child(properties, name) == nil })
	if len(names) > 0 {
		setChild(t, schema, "required", names)
	}
}

// closeAllOf lets a schema allow the properties that its allOf describes:
// additionalProperties sees only those beside it.
func closeAllOf(schema *yaml.Node) {
	for _, key := range schema.Content {
		if key.Value == "additionalProperties" && child(schema, "allOf") != nil {
			key.Value = "unevaluatedProperties"
		}
	}
}

// child returns the node below a mapping at keys, nil if there is none.
func child(node *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		if node == nil {
			return nil
		}
		var next *yaml.Node
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				next = node.Content[i+1]
			}
		}
		node = next
	}
	return node
}

// setChild sets a key of a mapping.
func setChild(t *testing.T, mapping *yaml.Node, key string, value any) {
	t.Helper()
	var node yaml.Node
	backendtest.Must(t, node.Encode(value))
	setNode(mapping, key, &node)
}

func setNode(mapping *yaml.Node, key string, value *yaml.Node) {
	if old := child(mapping, key); old != nil {
		*old = *value
		return
	}
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
}
