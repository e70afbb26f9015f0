// SPDX-License-Identifier: Apache-2.0

package storage

import "context"

type visibilityKey struct{}

// WithVisibility makes lists and watches show only the objects of namespaces for
// which sees is true. All others are as if they were not there: no limit, no
// count and no continue token discloses them. It comes with the context, because
// that is all that reaches the storage through the registry.
//
// A list asks for a namespace once when it comes to its objects, a watch for
// each event.
func WithVisibility(ctx context.Context, sees func(namespace string) bool) context.Context {
	return context.WithValue(ctx, visibilityKey{}, sees)
}

// visibility is what one list or watch is shown; the zero value shows all.
type visibility struct {
	visible func(namespace string) bool
	prefix  string // of the keys
}

func (s *Store) visibility(ctx context.Context) visibility {
	sees, _ := ctx.Value(visibilityKey{}).(func(string) bool)
	hidden := s.backend.hiddenFrom(ctx)
	if len(hidden) == 0 {
		return visibility{sees, s.prefix}
	}
	return visibility{func(namespace string) bool {
		if _, hides := hidden[namespace]; hides {
			return false
		}
		return sees == nil || sees(namespace)
	}, s.prefix}
}

// shows returns whether what is at key is shown.
func (v visibility) shows(key string) bool {
	return v.visible == nil || v.visible(namespaceOf(v.prefix, key))
}

// memoized asks once for each namespace. It is for those who go through the keys
// in their order.
func (v visibility) memoized() visibility {
	if v.visible == nil {
		return v
	}
	asked, last, seen := false, "", false
	sees := v.visible
	v.visible = func(namespace string) bool {
		if !asked || namespace != last {
			asked, last, seen = true, namespace, sees(namespace)
		}
		return seen
	}
	return v
}
