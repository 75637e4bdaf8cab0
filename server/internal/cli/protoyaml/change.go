package protoyaml

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// Copy sets the fields of a message that another has under the same name.
func Copy(into, from proto.Message) {
	dst, src := into.ProtoReflect(), proto.Clone(from).ProtoReflect()
	fields := dst.Descriptor().Fields()
	for i := range fields.Len() {
		to := fields.Get(i)
		field := src.Descriptor().Fields().ByName(to.Name())
		if field == nil || field.Kind() != to.Kind() || field.Cardinality() != to.Cardinality() {
			continue
		}
		if src.Has(field) || to.HasOptionalKeyword() && !field.HasPresence() {
			dst.Set(to, src.Get(field))
		}
	}
}

// Change is a field that differs between two messages.
type Change struct {
	Field  protoreflect.FieldDescriptor
	Before protoreflect.Value
	After  protoreflect.Value
}

// Changes are the fields in which two messages of one type differ.
func Changes(before, after proto.Message) (all []Change) {
	b, a := before.ProtoReflect(), after.ProtoReflect()
	fields := b.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !b.Get(field).Equal(a.Get(field)) {
			all = append(all, Change{field, b.Get(field), a.Get(field)})
		}
	}
	return all
}

// SetChanges sets changes in a message that updates: UpdateRoleRequest, whose fields are
// optional and which has clear_grants beside grants. It returns the names of the fields
// that cannot be changed.
func SetChanges(update proto.Message, changes []Change) (fixed []string) {
	m := update.ProtoReflect()
	for _, c := range changes {
		field := m.Descriptor().Fields().ByName(c.Field.Name())
		if field == nil {
			fixed = append(fixed, c.Field.JSONName())
			continue
		}
		empty := field.IsList() && c.After.List().Len() == 0 || field.IsMap() && c.After.Map().Len() == 0
		clearing := m.Descriptor().Fields().ByName("clear_" + c.Field.Name())
		switch {
		case empty && clearing != nil:
			m.Set(clearing, protoreflect.ValueOfBool(true))
		case field.IsList():
			list := m.NewField(field).List()
			for i := range c.After.List().Len() {
				list.Append(c.After.List().Get(i))
			}
			m.Set(field, protoreflect.ValueOfList(list))
		case field.IsMap():
			values := m.NewField(field).Map()
			c.After.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				values.Set(k, v)
				return true
			})
			m.Set(field, protoreflect.ValueOfMap(values))
		case field.Message() != nil && !c.After.Message().IsValid():
			if field.Message().FullName() == structName { // {} is none
				m.Set(field, protoreflect.ValueOfMessage((&structpb.Struct{}).ProtoReflect()))
			}
		default:
			m.Set(field, c.After)
		}
	}
	return fixed
}
