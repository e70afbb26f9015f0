// SPDX-License-Identifier: Apache-2.0

package validation

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

var addressTypes = []infrastructure.MachineAddressType{
	infrastructure.MachineHostName,
	infrastructure.MachineExternalIP,
	infrastructure.MachineInternalIP,
	infrastructure.MachineInternalDNS,
}

func validateConditions(conditions []metav1.Condition) field.ErrorList {
	if errs := tooMany(len(conditions), maxConditions, statusPath.Child("conditions")); errs != nil {
		return errs
	}
	return metav1validation.ValidateConditions(conditions, statusPath.Child("conditions"))
}

// validateInitialization refuses to reset what Cluster API reads only once.
func validateInitialization(initialization, old infrastructure.Initialization) field.ErrorList {
	isTrue := func(b *bool) bool { return b != nil && *b }
	if isTrue(old.Provisioned) && !isTrue(initialization.Provisioned) {
		return field.ErrorList{field.Invalid(statusPath.Child("initialization", "provisioned"), initialization.Provisioned, "must stay true once it is true; the current state is in status.ready and the condition Ready")}
	}
	return nil
}

func validateAddresses(addresses []infrastructure.MachineAddress) field.ErrorList {
	var errs field.ErrorList
	for i, address := range addresses {
		path := statusPath.Child("addresses").Index(i)
		known := false
		for _, t := range addressTypes {
			known = known || t == address.Type
		}
		if !known {
			errs = append(errs, field.NotSupported(path.Child("type"), address.Type, addressTypes))
		}
		if address.Address == "" {
			errs = append(errs, field.Required(path.Child("address"), ""))
		}
	}
	return errs
}

func validateFailureDomains(domains []infrastructure.FailureDomain) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, domain := range domains {
		path := statusPath.Child("failureDomains").Index(i).Child("name")
		switch {
		case domain.Name == "":
			errs = append(errs, field.Required(path, ""))
		case seen[domain.Name]:
			errs = append(errs, field.Duplicate(path, domain.Name))
		}
		seen[domain.Name] = true
	}
	return errs
}

// The distances of a firewall, and those that a firewall-controller can report.
const (
	maxDistance         = 8
	maxReportedDistance = 255
)

// validateFirewallStatus validates what the controller manager records of a firewall.
func validateFirewallStatus(status *infrastructure.MetalStackFirewallStatus) field.ErrorList {
	errs := validateDistance(status.Distance, maxDistance, statusPath.Child("distance"))
	if reported := status.Controller; reported != nil {
		path := statusPath.Child("controller")
		errs = append(errs, tooLong(reported.Version, maxVersionLength, path.Child("version"))...)
		errs = append(errs, tooLong(reported.NftablesExporterVersion, maxVersionLength, path.Child("nftablesExporterVersion"))...)
		errs = append(errs, tooLong(reported.Message, maxReportLength, path.Child("message"))...)
		if reported.Distance != nil {
			errs = append(errs, validateDistance(*reported.Distance, maxReportedDistance, path.Child("distance"))...)
		}
	}
	if access := status.ManagementAccess; access != nil {
		path := statusPath.Child("managementAccess")
		errs = append(errs, validateURL(access.URL, path.Child("url"))...)
		errs = append(errs, tooLong(string(access.ServiceAccountUID), maxUIDLength, path.Child("serviceAccountUID"))...)
	}
	if access := status.WorkloadAccess; access != nil {
		path := statusPath.Child("workloadAccess")
		errs = append(errs, validateSecretName(access.KubeconfigSecretName, path.Child("kubeconfigSecretName"))...)
		errs = append(errs, validateSecretName(access.TokenSecretName, path.Child("tokenSecretName"))...)
		errs = append(errs, validateURL(access.APIServerURL, path.Child("apiServerURL"))...)
	}
	return errs
}

func validateDistance(distance int32, most int, path *field.Path) field.ErrorList {
	if distance < 0 || int(distance) > most {
		return field.ErrorList{field.Invalid(path, distance, validation.InclusiveRangeError(0, most))}
	}
	return nil
}

// validateSecretName validates the name of a Secret that may be left out.
func validateSecretName(name string, path *field.Path) field.ErrorList {
	errs := tooLong(name, validation.DNS1123SubdomainMaxLength, path)
	if errs != nil || name == "" {
		return errs
	}
	for _, msg := range validation.IsDNS1123Subdomain(name) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}
