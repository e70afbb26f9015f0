// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline/warning"
)

// checkPlace checks that there are the project and the partition of a network to allocate. How
// many prefixes the partition has left is not known.
func (p *Protocol) checkPlace(ctx context.Context, project, partition string) error {
	offers := p.opts.Offers
	if offers == nil {
		return nil
	}
	if err := p.checkProject(ctx, project); err != nil {
		return err
	}
	found, all, err := offers.Catalogue.LookupPartition(ctx, partition)
	switch {
	case found != nil:
	case err != nil:
		return lookupRefusal(err)
	default:
		return refuseField(field.NotSupported(partitionPath, partition, all))
	}
	// The list of networks is some minutes old.
	if super, err := offers.Catalogue.LookupSuperNetwork(ctx, partition); err == nil && super == nil {
		warning.Add(ctx, "partition %q has no private super network, as networks were listed last: metal-stack refuses private networks in it", partition)
	}
	return nil
}

// checkFree checks that the address that a claim asks for can be allocated: the one that it names,
// or any of the network.
func (o *ipOperation) checkFree(ctx context.Context) error {
	if address, err := netip.ParseAddr(o.spec.Address); err == nil {
		found, err := o.p.opts.Metal.FindIPs(ctx, metal.IPQuery{Address: address.String()})
		if err == nil && len(found) > 0 {
			err = refuse(http.StatusConflict, "conflict in the metal-api: address %s is not free", o.spec.Address)
		}
		return asRefusal(err)
	}
	if _, found, err := (ipClaimAllocator{ipOperation: o}).find(ctx); err != nil || found {
		return asRefusal(err)
	}
	n, err := o.p.lookUpNetwork(ctx, o.spec.NetworkID, o.project)
	if err != nil || n == nil {
		return asRefusal(err)
	}
	if family := o.spec.AddressFamily; family != "" && !slices.ContainsFunc(n.Prefixes, func(prefix string) bool { return isOfFamily(prefix, family) }) {
		return refuseField(field.Invalid(addressFamilyPath, family, fmt.Sprintf("network %q has none such: %s", n.ID, strings.Join(n.Prefixes, ", "))))
	}
	if o.spec.AddressFamily == metal.AddressFamilyIPv6 {
		return nil // What is used of it is not known.
	}
	return checkAddressLeft(n)
}

func isOfFamily(prefix, family string) bool {
	p, err := netip.ParsePrefix(prefix)
	return err != nil || p.Addr().Is4() == (family == metal.AddressFamilyIPv4)
}
