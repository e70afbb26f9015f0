// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const claimBegunHelp = "the allocation has begun"

// ValidateNetwork validates a new MetalStackNetwork.
func ValidateNetwork(network *infrastructure.MetalStackNetwork) field.ErrorList {
	errs := validateMetadata(&network.ObjectMeta)
	if uuid.Validate(network.Name) == nil {
		errs = append(errs, field.Invalid(metadataPath.Child("name"), network.Name, "must not be a UUID: networks that are not claimed are named by their id"))
	}
	return append(errs, validateNetworkSpec(&network.Spec)...)
}

func validateNetworkSpec(spec *infrastructure.MetalStackNetworkSpec) field.ErrorList {
	var errs field.ErrorList
	if spec.Partition == "" {
		errs = append(errs, field.Required(specPath.Child("partition"), "must be the metal-stack partition to allocate the network in: see 'kubectl get metalstackpartitions'"))
	}
	errs = append(errs, validatePartition(spec.Partition, specPath.Child("partition"))...)
	errs = append(errs, validatePrivateNetwork(spec.Addresses, specPath.Child("addresses"))...)
	return append(errs, validateID(spec.NetworkID, specPath.Child("networkID"))...)
}

// ValidateOneClaimedNetwork validates that a new MetalStackNetwork either names its network or
// says how it is allocated. An object that existed before, in another management cluster or a
// backup, has both.
func ValidateOneClaimedNetwork(network *infrastructure.MetalStackNetwork) field.ErrorList {
	if network.Spec.Addresses == nil || network.Spec.NetworkID == "" {
		return nil
	}
	return field.ErrorList{field.Forbidden(specPath.Child("addresses"), "must be omitted, since networkID names the network")}
}

// ValidateNetworkUpdate validates a changed MetalStackNetwork.
func ValidateNetworkUpdate(network, old *infrastructure.MetalStackNetwork) field.ErrorList {
	errs := validateMetadataUpdate(&network.ObjectMeta, &old.ObjectMeta)
	spec, before := &network.Spec, &old.Spec
	if !changed(spec, before) {
		return errs
	}
	errs = append(errs, validateNetworkSpec(spec)...)
	errs = append(errs, immutable(spec.Partition, before.Partition, specPath.Child("partition"), "create another network for another partition")...)
	errs = append(errs, immutable(spec.Addresses, before.Addresses, specPath.Child("addresses"), "create another network for other addresses")...)
	if a := old.Status.Allocation; before.NetworkID == "" && a != nil && begun(&a.AllocationState) {
		return append(errs, immutable(spec.NetworkID, before.NetworkID, specPath.Child("networkID"), claimBegunHelp)...)
	}
	if before.NetworkID == "" {
		errs = append(errs, ValidateOneClaimedNetwork(network)...)
	}
	return append(errs, setOnce(spec.NetworkID, before.NetworkID, specPath.Child("networkID"), "create another object for another network")...)
}

// ValidateNetworkStatusUpdate validates a changed status of a MetalStackNetwork.
func ValidateNetworkStatusUpdate(network, old *infrastructure.MetalStackNetwork) field.ErrorList {
	return append(validateMetadataUpdate(&network.ObjectMeta, &old.ObjectMeta), validateConditions(network.Status.Conditions)...)
}
