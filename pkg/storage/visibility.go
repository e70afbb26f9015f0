// SPDX-License-Identifier: Apache-2.0

package storage

import "context"

type visibilityKey struct{}

// Visibility is which namespaces' objects one list or watch shows.
type Visibility interface {
	// All reports whether it is all of them.
	All() bool
	// Includes reports whether the objects of a namespace are shown. A list asks for
	// a namespace once when it comes to its objects, a watch for each event.
	Includes(namespace string) bool
	// Done is closed when the visibility ends: what Includes returns from then on must
	// not be used. A watch then ends with the error Err; of a list, the caller asks.
	Done() <-chan struct{}
	Err() error
}

// WithVisibility makes lists and watches show only the objects of namespaces that v
// includes. All others are as if they were not there: no limit, no
// count and no continue token discloses them. It comes with the context, because
// that is all that reaches the storage through the registry.
func WithVisibility(ctx context.Context, v Visibility) context.Context {
	return context.WithValue(ctx, visibilityKey{}, v)
}

// visibilityOf returns the visibility in the context; nil if all is shown, for good.
func visibilityOf(ctx context.Context) Visibility {
	v, _ := ctx.Value(visibilityKey{}).(Visibility)
	return v
}

// namespaceFilter selects the namespaces that one list or watch shows: those visible
// to the user, without the hidden ones. The zero value shows all.
type namespaceFilter struct {
	visible func(namespace string) bool
	prefix  string // of the keys
}

func (s *Store) namespaceFilter(ctx context.Context) namespaceFilter {
	if s.clusterScoped {
		return namespaceFilter{}
	}
	var sees func(namespace string) bool
	if v := visibilityOf(ctx); v != nil && !v.All() {
		sees = v.Includes
	}
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
