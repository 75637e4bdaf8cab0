package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// asked prints the answer to a change where JSON or YAML was asked for; people have
// been told by say.
func (e *env) asked(answer proto.Message) error {
	if e.Output == "table" {
		return nil
	}
	return e.show(answer, func(*table) {})
}

// editFields has a person edit what an update can change of an object, in the form of
// form, and sets in update what they changed.
func (e *env) editFields(ctx context.Context, what string, object, form, update proto.Message, without ...protoreflect.Name) error {
	protoyaml.Copy(form, object)
	for _, field := range without {
		form.ProtoReflect().Clear(form.ProtoReflect().Descriptor().Fields().ByName(field))
	}
	after := proto.Clone(form)
	changed, err := e.edit(ctx, what, after)
	if err != nil {
		return err
	}
	changes := protoyaml.Changes(form, after)
	if !changed || len(changes) == 0 {
		return errNotConfirmed
	}
	if fixed := protoyaml.SetChanges(update, changes); len(fixed) > 0 {
		return fmt.Errorf("%s cannot be changed; create another and remove this one", strings.Join(fixed, ", "))
	}
	return nil
}

// attributes is an object as one line of JSON.
func attributes(s *structpb.Struct) string {
	if len(s.GetFields()) == 0 {
		return ""
	}
	text, err := json.Marshal(s.AsMap())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// effect is what a grant does.
func effect(g *tollgatev1.Grant) string {
	if g.GetEffect() == tollgatev1.Effect_EFFECT_DENY {
		return "deny"
	}
	return "allow"
}
