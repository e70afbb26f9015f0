// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// namespaceLookupTimeout is how long looking at a Namespace may take.
const namespaceLookupTimeout = 5 * time.Second

// checkNamespaceController refuses a request of the namespace controller to delete objects
// of a kind that holds metal unless the Namespace is being deleted: 403, or 503
// if that cannot be found out. The controller deletes by the Namespace's name. If
// the Namespace is finalized by force and made again meanwhile, the new one may
// have taken the objects over, and the controller's request is late.
func (r *REST) checkNamespaceController(ctx context.Context, name string) error {
	if r.owners == nil || r.hasMetal == nil || requester(ctx) != infrastructure.DeletionByNamespaceController {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, namespaceLookupTimeout)
	defer cancel()
	namespace := request.NamespaceValue(ctx)
	ns, err := r.owners.Namespace(ctx, namespace)
	whyNot := ""
	switch {
	case apierrors.IsNotFound(err):
		whyNot = "not found"
	case err != nil:
		return apierrors.NewServiceUnavailable(fmt.Sprintf(
			"failed to get namespace %q: %v: retry", namespace, err))
	case ns.GetDeletionTimestamp() == nil:
		whyNot = "not being deleted"
	default:
		return nil
	}
	return apierrors.NewForbidden(r.DefaultQualifiedResource, name, fmt.Errorf(
		"the namespace controller may delete objects that can hold metal only while their namespace is being deleted: namespace %q is %s", namespace, whyNot))
}
