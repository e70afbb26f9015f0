// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// DeadlineMargin is how long before the request's deadline a subresource answers: the
// generic server would say no more than that time is up.
const DeadlineMargin = time.Second

// WithDeadlineMargin returns a context that ends before the request does.
func WithDeadlineMargin(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(ctx, deadline.Add(-DeadlineMargin))
	}
	return context.WithCancel(ctx)
}

// CheckPreconditions returns a conflict unless the preconditions of a deletion hold.
func CheckPreconditions(resource schema.GroupResource, obj metav1.Object, p metav1.Preconditions) error {
	if p.UID != nil && *p.UID != obj.GetUID() {
		return apierrors.NewConflict(resource, obj.GetName(), fmt.Errorf("UID precondition failed: expected %s, found %s", *p.UID, obj.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != obj.GetResourceVersion() {
		return apierrors.NewConflict(resource, obj.GetName(), fmt.Errorf("resourceVersion precondition failed: expected %s, found %s", *p.ResourceVersion, obj.GetResourceVersion()))
	}
	return nil
}
