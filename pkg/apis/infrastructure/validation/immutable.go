// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// immutable refuses a change; because says why, and what to do instead.
func immutable(value, old any, path *field.Path, because string) field.ErrorList {
	if apiequality.Semantic.DeepEqual(value, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value, apivalidation.FieldImmutableErrorMsg+": "+because)}
}

// setOnce refuses to change a value once it is set.
func setOnce(value, old string, path *field.Path, because string) field.ErrorList {
	if old == "" || value == old {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value, fmt.Sprintf("%s once set, and is %q: %s", apivalidation.FieldImmutableErrorMsg, old, because))}
}

// begun reports whether an allocation is in flight, done or being released. One
// without a phase was refused and waits for its next attempt, so the spec may
// still be corrected.
func begun(state *infrastructure.AllocationState) bool {
	return state.Phase != ""
}

func machineBegun(allocation *infrastructure.MachineAllocation) bool {
	return allocation != nil && begun(&allocation.AllocationState)
}

func clusterBegun(allocation *infrastructure.ClusterAllocation) bool {
	return allocation != nil && begun(&allocation.AllocationState)
}
