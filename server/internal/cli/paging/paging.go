// Package paging follows the pages of the API's lists.
package paging

import "google.golang.org/protobuf/reflect/protoreflect"

// Size is how many the API gives at once.
const Size = 250

// All follows the pages of a list, up to limit entries. Into is the answer that all
// are gathered in: it is what one page of the API would be if it held so many.
func All[P interface {
	ProtoReflect() protoreflect.Message
	GetNextPageToken() string
}](limit int, get func(size int32, token string) (P, error)) (into P, err error) {
	var list protoreflect.FieldDescriptor
	for token := ""; ; {
		size := Size
		if limit > 0 {
			so := 0
			if list != nil {
				so = into.ProtoReflect().Get(list).List().Len()
			}
			if size = min(size, limit-so); size <= 0 {
				return into, nil
			}
		}
		page, err := get(int32(size), token)
		if err != nil {
			return into, err
		}
		m := page.ProtoReflect()
		if list == nil {
			list, into = listOf(m.Descriptor()), page
		} else {
			all := into.ProtoReflect().Mutable(list).List()
			more := m.Get(list).List()
			for i := range more.Len() {
				all.Append(more.Get(i))
			}
			into.ProtoReflect().Set(tokenOf(m.Descriptor()), protoreflect.ValueOfString(page.GetNextPageToken()))
		}
		if token = page.GetNextPageToken(); token == "" {
			return into, nil
		}
	}
}

// listOf is the list of a page.
func listOf(page protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	for i := range page.Fields().Len() {
		if field := page.Fields().Get(i); field.IsList() {
			return field
		}
	}
	panic("no page: " + page.FullName())
}

func tokenOf(page protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	return page.Fields().ByName("next_page_token")
}
