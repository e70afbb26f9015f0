// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
)

// Deletions refuses deletions that only a garbage collector completes: it deletes or
// orphans dependents, and then removes the finalizer that such a deletion adds.
type Deletions struct{}

var _ admission.ValidationInterface = Deletions{}

// Handles implements admission.Interface.
func (Deletions) Handles(operation admission.Operation) bool { return operation == admission.Delete }

// Validate implements admission.ValidationInterface.
func (Deletions) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	options, ok := a.GetOperationOptions().(*metav1.DeleteOptions)
	if !ok || options == nil {
		return nil
	}
	const why = "requires a garbage collector, which a standalone server does not have; use Background (kubectl delete --cascade=background) and delete dependents yourself"
	var problems field.ErrorList
	if policy := options.PropagationPolicy; policy != nil && *policy != metav1.DeletePropagationBackground {
		problems = append(problems, field.Invalid(field.NewPath("propagationPolicy"), *policy, why))
	}
	if orphan := options.OrphanDependents; orphan != nil && *orphan { //nolint:staticcheck // deprecated, and sent by old clients
		problems = append(problems, field.Invalid(field.NewPath("orphanDependents"), *orphan, why))
	}
	if len(problems) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, a.GetName(), problems)
}
