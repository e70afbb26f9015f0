// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Origin is what a record says of the Namespace that it is of. The zero value
// says nothing.
type Origin struct {
	// UID is the Namespace's.
	UID types.UID
	// Project is the project that the Namespace was bound to.
	Project string
}

// Origin returns what a record that is made in a namespace now is to say of it,
// and since when there is that Namespace; zero if the namespace is not bound.
func (n *Namespaces) Origin(namespace string) (origin Origin, since time.Time) {
	s := n.state.Load()
	b, bound := s.bindings[namespace]
	ns := s.results[namespace]
	if !bound || ns.uid == "" || ns.uid != b.uid {
		return Origin{}, time.Time{}
	}
	return Origin{b.uid, b.project}, ns.created
}

// completeFromOrigins returns the bindings that are in force, and those that are not known
// any more, because what was written down of them is lost, as far as records name
// them. stray are bindings that records name and that cannot be in force:
// the namespace is bound to another project, or the project to another namespace.
//
// If records and a binding say the same project, and another uid, and nothing was
// taken over, there are records of an earlier Namespace.
func completeFromOrigins(known map[string]namespace, inForce map[string]binding, origins map[string][]Origin) (all, stray map[string]binding) {
	all, stray = maps.Clone(inForce), map[string]binding{}
	if all == nil {
		all = map[string]binding{}
	}
	namespaceOf := map[string]string{}
	for name, b := range all {
		namespaceOf[b.project] = name
	}
	for _, name := range slices.Sorted(maps.Keys(origins)) {
		for _, o := range slices.SortedFunc(slices.Values(origins[name]), func(a, b Origin) int {
			return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.UID, b.UID))
		}) {
			b, bound := all[name]
			switch {
			case o.UID == "" || !isProjectID(o.Project):
				// It was written by hand, and says nothing.
			case !bound && namespaceOf[o.Project] == "":
				all[name], namespaceOf[o.Project] = binding{project: o.Project, uid: o.UID}, name
			case !bound || b.project != o.Project:
				stray[name] = binding{project: o.Project, uid: o.UID}
			case b.takenOver.IsZero() && (b.uid == "" || b.uid == known[name].uid):
				b.uid = o.UID
				all[name] = b
			}
		}
	}
	return all, stray
}
