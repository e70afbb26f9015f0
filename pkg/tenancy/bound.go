// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"maps"

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
