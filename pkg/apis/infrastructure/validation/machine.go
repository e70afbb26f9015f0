// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const (
	imageHelp       = "must be an image or its alias, such as ubuntu-24.04: see 'kubectl get metalstackimages'"
	machineTypeHelp = "must be a metal-stack size, such as v1-small-x86: see 'kubectl get metalstacksizes'"

	replaceHelp    = "its allocation has begun; replace the object instead"
	providerIDHelp = "create another object for another machine"
)

// ValidateMachine validates a new MetalStackMachine.
func ValidateMachine(machine *infrastructure.MetalStackMachine) field.ErrorList {
	errs := validateMetadata(&machine.ObjectMeta)
	return append(errs, validateMachineSpec(&machine.Spec, machine.Namespace, specPath)...)
}

// ValidateMachineUpdate validates a changed MetalStackMachine.
func ValidateMachineUpdate(machine, old *infrastructure.MetalStackMachine) field.ErrorList {
	errs := validateMetadataUpdate(&machine.ObjectMeta, &old.ObjectMeta)
	spec, before := &machine.Spec, &old.Spec
	if !changed(spec, before) {
		return errs
	}
	invalid := validateMachineSpec(spec, machine.Namespace, specPath)
	invalid = unlessUnchanged(invalid, spec.SSHKeys, before.SSHKeys, specPath.Child("sshKeys"))
	invalid = unlessUnchanged(invalid, spec.Tags, before.Tags, specPath.Child("tags"))
	errs = append(errs, unlessUnchanged(invalid, spec.Networks, before.Networks, specPath.Child("networks"))...)
	errs = append(errs, setOnce(spec.ProviderID, before.ProviderID, specPath.Child("providerID"), providerIDHelp)...)
	if machineBegun(old.Status.Allocation) {
		errs = append(errs, immutable(spec.Image, before.Image, specPath.Child("image"), replaceHelp)...)
		errs = append(errs, immutable(spec.MachineType, before.MachineType, specPath.Child("machineType"), replaceHelp)...)
		errs = append(errs, immutable(spec.Partition, before.Partition, specPath.Child("partition"), replaceHelp)...)
		errs = append(errs, immutable(spec.SSHKeys, before.SSHKeys, specPath.Child("sshKeys"), replaceHelp)...)
		errs = append(errs, immutable(spec.Tags, before.Tags, specPath.Child("tags"), replaceHelp)...)
		errs = append(errs, immutable(spec.UserData, before.UserData, specPath.Child("userData"), replaceHelp)...)
		errs = append(errs, immutable(spec.Networks, before.Networks, specPath.Child("networks"), replaceHelp)...)
		errs = append(errs, immutable(spec.DNSServers, before.DNSServers, specPath.Child("dnsServers"), replaceHelp)...)
		errs = append(errs, immutable(spec.NTPServers, before.NTPServers, specPath.Child("ntpServers"), replaceHelp)...)
		errs = append(errs, immutable(spec.FilesystemLayout, before.FilesystemLayout, specPath.Child("filesystemLayout"), replaceHelp)...)
	}
	return errs
}

// ValidateMachineStatusUpdate validates a changed status of a MetalStackMachine.
func ValidateMachineStatusUpdate(machine, old *infrastructure.MetalStackMachine) field.ErrorList {
	errs := validateMetadataUpdate(&machine.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateConditions(machine.Status.Conditions)...)
	errs = append(errs, validateInitialization(machine.Status.Initialization, old.Status.Initialization)...)
	return append(errs, validateAddresses(machine.Status.Addresses)...)
}

func validateMachineSpec(spec *infrastructure.MetalStackMachineSpec, namespace string, path *field.Path) field.ErrorList {
	errs := requireID(spec.Image, path.Child("image"), imageHelp)
	errs = append(errs, requireID(spec.MachineType, path.Child("machineType"), machineTypeHelp)...)
	errs = append(errs, validatePartition(spec.Partition, path.Child("partition"))...)
	errs = append(errs, validateProviderID(spec.ProviderID, spec.Partition, path.Child("providerID"))...)
	errs = append(errs, validateSSHKeys(spec.SSHKeys, path.Child("sshKeys"))...)
	errs = append(errs, validateOperatingSystem(spec.DNSServers, spec.NTPServers, spec.FilesystemLayout, path)...)
	errs = append(errs, validateTags(spec.Tags, path.Child("tags"))...)
	errs = append(errs, validateSecretReference(spec.UserData, namespace, path.Child("userData"))...)
	return append(errs, validateNetworks(spec.Networks, path.Child("networks"))...)
}
