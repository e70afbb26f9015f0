// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const firewallImageHelp = "must be a firewall image or its alias, such as firewall-ubuntu-3.0: see 'kubectl get metalstackimages'"

// ValidateFirewall validates a new MetalStackFirewall.
func ValidateFirewall(firewall *infrastructure.MetalStackFirewall) field.ErrorList {
	errs := validateMetadata(&firewall.ObjectMeta)
	return append(errs, validateFirewallSpec(&firewall.Spec, firewall.Namespace, firewall.Spec.Partition, specPath)...)
}

// ValidateFirewallUpdate validates a changed MetalStackFirewall. Of an allocated one,
// what can change while it runs can be changed: controller, provisioningTimeout and
// autoUpdate.
func ValidateFirewallUpdate(firewall, old *infrastructure.MetalStackFirewall) field.ErrorList {
	errs := validateMetadataUpdate(&firewall.ObjectMeta, &old.ObjectMeta)
	spec, before := &firewall.Spec, &old.Spec
	if !changed(spec, before) {
		return errs
	}
	errs = append(errs, unlessListsUnchanged(validateFirewallSpec(spec, firewall.Namespace, spec.Partition, specPath), spec, before, specPath)...)
	errs = append(errs, setOnce(spec.ProviderID, before.ProviderID, specPath.Child("providerID"), providerIDHelp)...)
	if machineBegun(old.Status.Allocation) {
		errs = append(errs, immutable(spec.Image, before.Image, specPath.Child("image"), replaceHelp)...)
		errs = append(errs, immutable(spec.MachineType, before.MachineType, specPath.Child("machineType"), replaceHelp)...)
		errs = append(errs, immutable(spec.Partition, before.Partition, specPath.Child("partition"), replaceHelp)...)
		errs = append(errs, immutable(spec.SSHKeys, before.SSHKeys, specPath.Child("sshKeys"), replaceHelp)...)
		errs = append(errs, immutable(spec.UserData, before.UserData, specPath.Child("userData"), replaceHelp)...)
		errs = append(errs, immutable(spec.Networks, before.Networks, specPath.Child("networks"), replaceHelp)...)
		errs = append(errs, immutable(spec.DNSServers, before.DNSServers, specPath.Child("dnsServers"), replaceHelp)...)
		errs = append(errs, immutable(spec.NTPServers, before.NTPServers, specPath.Child("ntpServers"), replaceHelp)...)
		errs = append(errs, immutable(spec.FilesystemLayout, before.FilesystemLayout, specPath.Child("filesystemLayout"), replaceHelp)...)
		errs = append(errs, immutable(spec.Rules, before.Rules, specPath.Child("rules"), replaceHelp)...)
	}
	return errs
}

// ValidateFirewallStatusUpdate validates a changed status of a MetalStackFirewall.
func ValidateFirewallStatusUpdate(firewall, old *infrastructure.MetalStackFirewall) field.ErrorList {
	errs := validateMetadataUpdate(&firewall.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateConditions(firewall.Status.Conditions)...)
	errs = append(errs, validateInitialization(firewall.Status.Initialization, old.Status.Initialization)...)
	errs = append(errs, validateAddresses(firewall.Status.Addresses)...)
	return append(errs, validateFirewallStatus(&firewall.Status)...)
}

// validateFirewallSpec validates the spec of a firewall, or in that of a
// cluster, of a namespace; partition is where the firewall is to be, and seen are
// the networks that it is part of anyway.
func validateFirewallSpec(spec *infrastructure.MetalStackFirewallSpec, namespace, partition string, path *field.Path, seen ...string) field.ErrorList {
	errs := requireID(spec.Image, path.Child("image"), firewallImageHelp)
	errs = append(errs, requireID(spec.MachineType, path.Child("machineType"), machineTypeHelp)...)
	errs = append(errs, validatePartition(spec.Partition, path.Child("partition"))...)
	errs = append(errs, validateProviderID(spec.ProviderID, partition, path.Child("providerID"))...)
	errs = append(errs, validateSSHKeys(spec.SSHKeys, path.Child("sshKeys"))...)
	errs = append(errs, validateOperatingSystem(spec.DNSServers, spec.NTPServers, spec.FilesystemLayout, path)...)
	errs = append(errs, validateSecretReference(spec.UserData, namespace, path.Child("userData"))...)
	errs = append(errs, validateNetworks(spec.Networks, path.Child("networks"), seen...)...)
	errs = append(errs, validateRules(spec.Rules, path.Child("rules"))...)
	errs = append(errs, validateController(spec.Controller, path.Child("controller"))...)
	errs = append(errs, validateDuration(spec.ProvisioningTimeout, minProvisioningTimeout, maxProvisioningTimeout, path.Child("provisioningTimeout"))...)
	return append(errs, validateAutoUpdate(spec.AutoUpdate, path.Child("autoUpdate"))...)
}

// unlessListsUnchanged leaves out what errs say of the size of lists of a
// firewall's spec that are as they were, and of what can change while it runs.
func unlessListsUnchanged(errs field.ErrorList, spec, old *infrastructure.MetalStackFirewallSpec, path *field.Path) field.ErrorList {
	if spec == nil || old == nil {
		return errs
	}
	errs = unlessUnchanged(errs, spec.SSHKeys, old.SSHKeys, path.Child("sshKeys"))
	errs = unlessUnchanged(errs, spec.Networks, old.Networks, path.Child("networks"))
	errs = unlessKept(errs, spec.Controller, old.Controller, path.Child("controller"))
	errs = unlessKept(errs, spec.ProvisioningTimeout, old.ProvisioningTimeout, path.Child("provisioningTimeout"))
	errs = unlessKept(errs, spec.AutoUpdate, old.AutoUpdate, path.Child("autoUpdate"))
	if spec.Rules != nil && old.Rules != nil {
		errs = unlessUnchanged(errs, spec.Rules.Egress, old.Rules.Egress, path.Child("rules", "egress"))
		errs = unlessUnchanged(errs, spec.Rules.Ingress, old.Rules.Ingress, path.Child("rules", "ingress"))
	}
	return errs
}
