// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Bound returns the namespaces that are bound to a project and are not being
// deleted, with the uids of their Namespaces. The map is the caller's.
func (n *Namespaces) Bound() map[string]types.UID {
	s := n.state.Load()
	bound := map[string]types.UID{}
	for name := range maps.Values(s.shown) {
		bound[name] = s.results[name].uid
	}
	return bound
}

// BoundProjects returns the projects whose metal a namespace shows, sorted. Callers must not
// change it.
func (n *Namespaces) BoundProjects() []string { return n.state.Load().projects }

// BoundProjects returns the projects that were listed, sorted: of those whose namespaces are named
// after them there is no list.
func (s *Static) BoundProjects() []string { return slices.Sorted(maps.Keys(s.namespaces)) }
