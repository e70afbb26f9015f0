package storage

import "context"

type sightKey struct{}

// WithSight makes lists and watches show only the objects of namespaces for
// which sees is true. All others are as if they were not there: no limit, no
// count and no continue token tells of them. It comes with the context, because
// that is all that reaches the storage through the registry.
//
// A list asks for a namespace once when it comes to its objects, a watch for
// each event.
func WithSight(ctx context.Context, sees func(namespace string) bool) context.Context {
	return context.WithValue(ctx, sightKey{}, sees)
}

// sight is what one list or watch is shown; the zero value shows all.
type sight struct {
	sees   func(namespace string) bool
	prefix string // of the keys
}

func (s *Store) sight(ctx context.Context) sight {
	sees, _ := ctx.Value(sightKey{}).(func(string) bool)
	hidden := s.backend.hidden(ctx)
	if len(hidden) == 0 {
		return sight{sees, s.prefix}
	}
	return sight{func(namespace string) bool {
		if _, hides := hidden[namespace]; hides {
			return false
		}
		return sees == nil || sees(namespace)
	}, s.prefix}
}

// shows tells whether what is at key is shown.
func (s sight) shows(key string) bool {
	return s.sees == nil || s.sees(namespaceOf(s.prefix, key))
}

// steady asks once for each namespace. It is for those who go through the keys
// in their order.
func (s sight) steady() sight {
	if s.sees == nil {
		return s
	}
	asked, last, seen := false, "", false
	sees := s.sees
	s.sees = func(namespace string) bool {
		if !asked || namespace != last {
			asked, last, seen = true, namespace, sees(namespace)
		}
		return seen
	}
	return s
}
