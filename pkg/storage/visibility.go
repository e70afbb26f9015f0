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

// namespaceFilter selects the namespaces that one list or watch shows: those visible
// to the user, without the hidden ones. The zero value shows all.
type namespaceFilter struct {
	visible func(namespace string) bool
	prefix  string // of the keys
}

func (s *Store) namespaceFilter(ctx context.Context) namespaceFilter {
	sees, _ := ctx.Value(visibilityKey{}).(func(string) bool)
	hidden := s.backend.hiddenFrom(ctx)
	if len(hidden) == 0 {
		return namespaceFilter{sees, s.prefix}
	}
	return namespaceFilter{func(namespace string) bool {
		if _, hides := hidden[namespace]; hides {
			return false
		}
		return sees == nil || sees(namespace)
	}, s.prefix}
}

// shows returns whether what is at key is shown.
func (f namespaceFilter) shows(key string) bool {
	return f.visible == nil || f.visible(namespaceOf(f.prefix, key))
}

// memoized asks once for each namespace. It is for those who go through the keys
// in their order.
func (f namespaceFilter) memoized() namespaceFilter {
	if f.visible == nil {
		return f
	}
	asked, last, seen := false, "", false
	sees := f.visible
	f.visible = func(namespace string) bool {
		if !asked || namespace != last {
			asked, last, seen = true, namespace, sees(namespace)
		}
		return seen
	}
	return f
}
