// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const (
	ipv4, ipv6 = "IPv4", "IPv6"

	oneNetworkHelp = "must be omitted, since privateNetworkID names the network"
)

var addressFamilies = []string{ipv4, ipv6}

// prefixLength is the length of a network's prefix; zero if it is left out.
type prefixLength struct {
	family string
	length int32
	// longest is the longest prefix that has room for two machines.
	longest int32
	path    *field.Path
}

func prefixLengthsOf(network *infrastructure.PrivateNetwork, path *field.Path) []prefixLength {
	path = path.Child("prefixLengths")
	return []prefixLength{
		{ipv4, network.PrefixLengths.IPv4, 30, path.Child("ipv4")},
		{ipv6, network.PrefixLengths.IPv6, 126, path.Child("ipv6")},
	}
}

// validatePrivateNetwork validates what can be said without the partition; see
// ValidatePrivateNetworkIn.
func validatePrivateNetwork(network *infrastructure.PrivateNetwork, path *field.Path) field.ErrorList {
	if network == nil {
		return nil
	}
	families := path.Child("addressFamilies")
	errs := tooMany(len(network.AddressFamilies), len(addressFamilies), families)
	if errs != nil {
		return errs
	}
	for i, family := range network.AddressFamilies {
		switch long := tooLong(family, len(ipv4), families.Index(i)); {
		case long != nil:
			errs = append(errs, long...)
		case !slices.Contains(addressFamilies, family):
			errs = append(errs, field.NotSupported(families.Index(i), family, addressFamilies))
		case slices.Contains(network.AddressFamilies[:i], family):
			errs = append(errs, field.Duplicate(families.Index(i), family))
		}
	}
	for _, l := range prefixLengthsOf(network, path) {
		switch {
		case l.length == 0:
		case l.length < 0 || l.length > l.longest:
			errs = append(errs, field.Invalid(l.path, l.length, validation.InclusiveRangeError(1, int(l.longest))))
		case len(network.AddressFamilies) > 0 && !slices.Contains(network.AddressFamilies, l.family):
			errs = append(errs, field.Invalid(l.path, l.length, "must be omitted, since addressFamilies lacks "+l.family))
		}
	}
	return errs
}

// ValidateOneNetwork validates that a new MetalStackCluster either names its private
// network or says how it is allocated. An object that existed before, in another
// management cluster or a backup, has both.
func ValidateOneNetwork(cluster *infrastructure.MetalStackCluster) field.ErrorList {
	return validateOneNetwork(&cluster.Spec, specPath)
}

func validateOneNetwork(spec *infrastructure.MetalStackClusterSpec, path *field.Path) field.ErrorList {
	if spec.PrivateNetwork == nil || spec.PrivateNetworkID == "" {
		return nil
	}
	return field.ErrorList{field.Forbidden(path.Child("privateNetwork"), oneNetworkHelp)}
}

// ValidatePrivateNetworkIn validates a private network against the one that a partition
// has for its private networks to be allocated from: its prefixes, and which lengths
// their prefixes have by default, by address family.
func ValidatePrivateNetworkIn(network *infrastructure.PrivateNetwork, prefixes []string, defaults map[string]int64, path *field.Path) field.ErrorList {
	shortest := map[string]int{}
	for _, s := range prefixes {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			continue
		}
		family := ipv6
		if prefix.Addr().Is4() {
			family = ipv4
		}
		if bits, known := shortest[family]; !known || prefix.Bits() < bits {
			shortest[family] = prefix.Bits()
		}
	}
	var errs field.ErrorList
	for i, family := range network.AddressFamilies {
		if _, has := shortest[family]; !has {
			errs = append(errs, field.NotSupported(path.Child("addressFamilies").Index(i), family, slices.Sorted(maps.Keys(shortest))))
		}
	}
	for _, l := range prefixLengthsOf(network, path) {
		bits, has := shortest[l.family]
		wanted := slices.Contains(network.AddressFamilies, l.family)
		switch {
		case l.length == 0 && has && wanted && defaults[l.family] == 0:
			errs = append(errs, field.Required(l.path, "must be set, since the partition has no default"))
		case l.length == 0:
		case !has && !wanted:
			errs = append(errs, field.Invalid(l.path, l.length, "must be omitted, since private networks of the partition have no "+l.family+" addresses"))
		case has && int(l.length) <= bits:
			errs = append(errs, field.Invalid(l.path, l.length, fmt.Sprintf("%s, since private networks of the partition are parts of a prefix of the length %d",
				validation.InclusiveRangeError(bits+1, int(l.longest)), bits)))
		}
	}
	return errs
}
