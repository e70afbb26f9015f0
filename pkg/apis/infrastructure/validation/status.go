// SPDX-License-Identifier: Apache-2.0

package validation

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
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
