// SPDX-License-Identifier: Apache-2.0

package references

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Address checks that an address to be allocated or adopted is in the network that it is asked
// for in, and, if the project has it already, that it is static. It answers the same about one
// that is free and about another project's: that only the metal-api says.
func (v *Validation) Address(path *field.Path, value, old, networkID string) {
	address, err := netip.ParseAddr(value)
	if value == old || err != nil || v.done() {
		return
	}
	ip, _, err := v.validator.Catalogue.LookupAddress(v.ctx, address, v.project)
	var network *metal.Network
	if err == nil && ip == nil {
		network, _, err = v.validator.Catalogue.LookupNetwork(v.ctx, networkID, v.project)
	}
	switch {
	case err != nil:
		v.warn(path, value, err)
	case ip != nil && ip.NetworkID != networkID:
		v.reject(field.Invalid(path, value, fmt.Sprintf("is in network %q: set networkID to it", ip.NetworkID)))
	case ip != nil && ip.Type != metal.TypeStatic:
		v.reject(field.Invalid(path, value, "is an ephemeral address of the project, which is freed together with what uses it: set a static or a free one, or omit the field to have one allocated"))
	case network != nil && v.mayUse(network) && !network.Contains(address):
		v.reject(field.Invalid(path, value, fmt.Sprintf("must be in network %q (%s), or omitted to have an address of it allocated", networkID, strings.Join(network.Prefixes, ", "))))
	}
}
