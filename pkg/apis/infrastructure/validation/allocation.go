// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// maxUserData is as much as a Secret holds, which is where user data comes from.
const maxUserData = 1 << 20

// ValidateAllocation validates the body of a POST to the allocation subresource
// of the object with that name. It never quotes the user data, which holds the
// secrets that a machine joins its cluster with.
func ValidateAllocation(allocation *infrastructure.Allocation, name string) field.ErrorList {
	var errs field.ErrorList
	if allocation.Name != "" && allocation.Name != name {
		errs = append(errs, field.Invalid(metadataPath.Child("name"), allocation.Name, fmt.Sprintf("must be the name of the object to allocate for, which is %q, or left out", name)))
	}
	if ref := allocation.ClusterRef; ref != nil {
		path := field.NewPath("clusterRef", "name")
		if ref.Name == "" {
			errs = append(errs, field.Required(path, "must be the name of a MetalStackCluster of the same namespace"))
		} else {
			for _, msg := range nameIsLabelValue(ref.Name, false) {
				errs = append(errs, field.Invalid(path, ref.Name, msg))
			}
		}
	}
	if len(allocation.UserData) > maxUserData {
		errs = append(errs, field.TooLong(field.NewPath("userData"), "", maxUserData))
	}
	return errs
}
