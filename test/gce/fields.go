package main

import (
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// selection is what of an answer is asked for, by the names in it; an empty one
// is all ("Partial response": a/b, a(b,c), and * for the keys of a map).
type selection map[string]selection

// partial answers with a selection.
type partial struct {
	http.ResponseWriter
	of selection
}

// selecting has answers be what a call's fields say.
func selecting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fields := r.FormValue("fields"); fields != "" {
			of := selection{}
			if rest := of.read(fields); rest != "" {
				refuse(w, http.StatusBadRequest, "Invalid field selection %s", rest)
				return
			}
			w = &partial{w, of}
		}
		next.ServeHTTP(w, r)
	})
}

// read adds what a list says, and returns what follows it.
func (s selection) read(list string) string {
	for {
		end := strings.IndexAny(list+",", "/(),")
		at := s.enter(list[:end])
		for list = list[end:]; strings.HasPrefix(list, "/"); list = list[end:] {
			list = list[1:]
			end = strings.IndexAny(list+",", "/(),")
			at = at.enter(list[:end])
		}
		if inner, ok := strings.CutPrefix(list, "("); ok {
			list = strings.TrimPrefix(at.read(inner), ")")
		}
		rest, more := strings.CutPrefix(list, ",")
		if !more {
			return list
		}
		list = rest
	}
}

func (s selection) enter(name string) selection {
	if s[name] == nil {
		s[name] = selection{}
	}
	return s[name]
}

// cut takes away from a message what is not selected.
func (s selection) cut(m protoreflect.Message) error {
	if len(s) == 0 {
		return nil
	}
	for name := range s {
		if m.Descriptor().Fields().ByJSONName(name) == nil {
			return fmt.Errorf("Invalid field selection %s", name)
		}
	}
	var err error
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		sub, ok := s[field.JSONName()]
		switch {
		case !ok:
			m.Clear(field)
		case len(sub) == 0:
		case field.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, one protoreflect.Value) bool {
				err = sub["*"].cut(one.Message())
				return err == nil
			})
		case field.IsList():
			for n := 0; n < v.List().Len() && err == nil; n++ {
				err = sub.cut(v.List().Get(n).Message())
			}
		default:
			err = sub.cut(v.Message())
		}
		return err == nil
	})
	return err
}
