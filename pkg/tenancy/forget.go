package tenancy

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/klog/v2"
)

// MayForgetMetal returns an API status unless the user may take a finalizer off
// an object that holds metal: 403 if the user may not delete the object's
// allocation, 503 if the authorizer gives no answer. The authorizer gets askLimit
// for the answer.
func (a *Access) MayForgetMetal(ctx context.Context, u user.Info, resource schema.GroupResource, namespace, name, finalizer string) error {
	may, err := a.ask(ctx, authorizer.AttributesRecord{
		User: u, Verb: "delete", Namespace: namespace, Name: name,
		APIGroup: resource.Group, Resource: resource.Resource, Subresource: "allocation",
	})
	switch {
	case err != nil:
		if ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot ask whether a user may take a finalizer off", "user", u.GetName(), "resource", resource, "namespace", namespace, "name", name)
		}
		return unavailable(fmt.Sprintf("whether the user %q may delete %s/allocation cannot be asked of the authorizer now: try again", u.GetName(), resource.Resource))
	case !may:
		return apierrors.NewForbidden(resource, name, fmt.Errorf(
			"metadata.finalizers: %s stays while the object holds metal, and the user %q may not delete %s/allocation in the namespace %q, which the removal takes: the metal would stay allocated in the project, and no object would show it. Delete the object and wait: the controller manager releases the metal and then removes the finalizer; the condition Deleting says what it waits for",
			finalizer, u.GetName(), resource.Resource, namespace))
	}
	return nil
}
