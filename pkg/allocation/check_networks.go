// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// checkNetworks checks which networks go together, as the metal-api does when it gathers them, and
// that each has an address left.
func (c *machineCheck) checkNetworks(ctx context.Context) {
	if len(c.plan.networks) == 0 {
		c.notes = append(c.notes, "the networks are those of the cluster, which are not known: set spec.networks")
		return
	}
	var private, shared []*metal.Network
	for _, id := range c.plan.networks {
		n, err := c.p.lookUpNetwork(ctx, id, c.plan.project)
		if err != nil {
			c.record(err)
			return
		}
		if n == nil {
			c.refuseNetworks("network %q not found", id)
			return
		}
		if err := checkAddressLeft(n); err != nil {
			c.record(err)
		}
		switch {
		case n.ParentNetworkID == "":
		case n.Shared:
			shared = append(shared, n)
		default:
			private = append(private, n)
		}
	}
	c.checkPrivateNetworks(private, shared)
}

// checkPrivateNetworks checks that exactly one of the networks is the primary private one.
func (c *machineCheck) checkPrivateNetworks(unshared, shared []*metal.Network) {
	all := append(unshared[:len(unshared):len(unshared)], shared...)
	switch {
	case len(all) == 0:
		c.refuseNetworks("no private network given")
		return
	case len(unshared) > 1:
		c.refuseNetworks("multiple private networks are specified but there must be only one primary private network that must not be shared")
		return
	case len(unshared) == 0 && len(shared) > 1:
		c.refuseNetworks("machines and firewalls are not allowed to be placed into multiple private, shared networks")
		return
	case c.machineKind.role == metal.RoleMachine && len(all) > 1:
		c.refuseNetworks("machines are not allowed to be placed into multiple private networks")
		return
	case all[0].Project != c.plan.project:
		c.refuseNetworks("the given private network does not belong to the project, which is not allowed")
	}
	for _, n := range all {
		if c.plan.partition != "" && n.Partition != c.plan.partition {
			c.refuseNetworks("private network %q must be located in the partition where the machine is going to be placed", n.ID)
		}
	}
}

// refuseNetworks refuses the networks in the metal-api's words.
func (c *machineCheck) refuseNetworks(format string, args ...any) {
	message := "unable to gather networks: " + fmt.Sprintf(format, args...)
	if path, value := c.specField(metal.FieldNetworks); path != nil {
		c.refuseField(field.Invalid(path, value, message))
	}
}

// checkAddressLeft refuses a network whose IPv4 addresses are all used. Others are not counted.
func checkAddressLeft(n *metal.Network) error {
	hasIPv4 := slices.ContainsFunc(n.Prefixes, func(prefix string) bool { return isOfFamily(prefix, metal.AddressFamilyIPv4) })
	if !hasIPv4 || n.AvailableIPs == 0 || n.UsedIPs < n.AvailableIPs {
		return nil
	}
	return refuse(http.StatusUnprocessableEntity, "no ips left: %d of %d addresses of network %q are used", n.UsedIPs, n.AvailableIPs, n.ID)
}
