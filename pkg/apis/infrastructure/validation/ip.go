// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// ValidateIP validates a new MetalStackIP.
func ValidateIP(ip *infrastructure.MetalStackIP) field.ErrorList {
	errs := validateMetadata(&ip.ObjectMeta)
	if _, err := netip.ParseAddr(ip.Name); err == nil {
		errs = append(errs, field.Invalid(metadataPath.Child("name"), ip.Name, "must not be an address: addresses that are not claimed are named by themselves"))
	}
	return append(errs, validateIPSpec(&ip.Spec)...)
}

func validateIPSpec(spec *infrastructure.MetalStackIPSpec) field.ErrorList {
	errs := requireID(spec.NetworkID, specPath.Child("networkID"), "must be the network to allocate the address in: see 'kubectl get metalstacknetworks'")
	families := specPath.Child("addressFamily")
	long := tooLong(spec.AddressFamily, len(ipv4), families)
	switch {
	case long != nil:
		errs = append(errs, long...)
	case spec.AddressFamily != "" && !slices.Contains(addressFamilies, spec.AddressFamily):
		errs = append(errs, field.NotSupported(families, spec.AddressFamily, addressFamilies))
	}
	return append(errs, validateAddress(spec.Address, spec.AddressFamily, specPath.Child("address"))...)
}

// maxAddressLength is the length of the longest IPv6 address.
const maxAddressLength = 45

// validateAddress validates an address in its usual form, which may be left out.
func validateAddress(address, family string, path *field.Path) field.ErrorList {
	if errs := tooLong(address, maxAddressLength, path); errs != nil || address == "" {
		return errs
	}
	addr, err := netip.ParseAddr(address)
	switch {
	case err != nil || !reachable(addr):
		return field.ErrorList{field.Invalid(path, address, "must be an IP address, such as 203.0.113.7 or 2001:db8::7: no loopback, link-local, multicast or unspecified address")}
	case addr.String() != address:
		return field.ErrorList{field.Invalid(path, address, fmt.Sprintf("must be in its usual form, %s", addr))}
	case family != "" && (family == ipv4) != addr.Is4():
		return field.ErrorList{field.Invalid(path, address, fmt.Sprintf("must be of the address family %s, or addressFamily omitted", family))}
	}
	return nil
}

// ValidateIPUpdate validates a changed MetalStackIP.
func ValidateIPUpdate(ip, old *infrastructure.MetalStackIP) field.ErrorList {
	errs := validateMetadataUpdate(&ip.ObjectMeta, &old.ObjectMeta)
	spec, before := &ip.Spec, &old.Spec
	if !changed(spec, before) {
		return errs
	}
	errs = append(errs, validateIPSpec(spec)...)
	errs = append(errs, immutable(spec.NetworkID, before.NetworkID, specPath.Child("networkID"), "create another object for another network")...)
	errs = append(errs, immutable(spec.AddressFamily, before.AddressFamily, specPath.Child("addressFamily"), "create another object for another address")...)
	if a := old.Status.Allocation; before.Address == "" && a != nil && begun(&a.AllocationState) {
		return append(errs, immutable(spec.Address, before.Address, specPath.Child("address"), claimBegunHelp)...)
	}
	return append(errs, setOnce(spec.Address, before.Address, specPath.Child("address"), "create another object for another address")...)
}

// ValidateIPStatusUpdate validates a changed status of a MetalStackIP.
func ValidateIPStatusUpdate(ip, old *infrastructure.MetalStackIP) field.ErrorList {
	return append(validateMetadataUpdate(&ip.ObjectMeta, &old.ObjectMeta), validateConditions(ip.Status.Conditions)...)
}
