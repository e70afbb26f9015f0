// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// guardFinalizer adds to a validation that our finalizer is taken off an object
// that holds metal only by a user who may also release the metal. Otherwise a
// tenant could leave metal behind that no object shows and no quota counts.
//
// The generic registry calls the validation for every form of an update, with
// the object as it would be written and as it is. Updates of the status do not
// change finalizers. The authorizer is asked once for one request at most.
func (r *REST) guardFinalizer(validate rest.ValidateObjectUpdateFunc) rest.ValidateObjectUpdateFunc {
	if r.hasMetal == nil {
		return validate
	}
	var once sync.Once
	var refusal error
	return func(ctx context.Context, obj, old runtime.Object) error {
		if r.removesFinalizer(obj, old) && r.hasMetal(old) {
			once.Do(func() { refusal = r.authorizeFinalizerRemoval(ctx, old.(metav1.Object)) })
			if refusal != nil {
				return refusal
			}
		}
		if validate == nil {
			return nil
		}
		return validate(ctx, obj, old)
	}
}

func (r *REST) removesFinalizer(obj, old runtime.Object) bool {
	return slices.Contains(old.(metav1.Object).GetFinalizers(), r.finalizer) && !slices.Contains(obj.(metav1.Object).GetFinalizers(), r.finalizer)
}

func (r *REST) authorizeFinalizerRemoval(ctx context.Context, old metav1.Object) error {
	u, known := request.UserFrom(ctx)
	if !known {
		return apierrors.NewInternalError(errors.New("request has no user"))
	}
	return r.visibility.AuthorizeFinalizerRemoval(ctx, u, r.DefaultQualifiedResource, old.GetNamespace(), old.GetName(), r.finalizer)
}
