// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// AuthorizeFinalizerRemoval returns an API status unless the user may remove a
// finalizer of an object that holds metal: 403 if the user may not delete the
// object's allocation, 503 if the authorizer makes no decision within
// authorizeTimeout.
func (r *Resolver) AuthorizeFinalizerRemoval(ctx context.Context, u user.Info, resource schema.GroupResource, namespace, name, finalizer string) error {
	allowed, err := r.authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: "delete", Namespace: namespace, Name: name,
		APIGroup: resource.Group, Resource: resource.Resource, Subresource: "allocation",
	})
	switch {
	case err != nil:
		return undecided(ctx, err, u, "delete", resource.Resource+"/allocation", namespace, name)
	case !allowed:
		return apierrors.NewForbidden(resource, name, fmt.Errorf(
			"metadata.finalizers: %s cannot be removed while the object holds metal: user %q cannot delete resource %q in namespace %q, and the metal would stay allocated without an object that shows it. Delete the object and wait: the controller manager releases the metal and then removes the finalizer; the condition Deleting says what it waits for",
			finalizer, u.GetName(), resource.Resource+"/allocation", namespace))
	}
	return nil
}
