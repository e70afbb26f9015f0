// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/klog/v2"
)

// The right to operate discovered machines, besides that to the subresource.
const (
	operateVerb           = "operate"
	discoveredSubresource = "discovered"
)

// retryAfterSeconds is when clients retry after the authorizer made no decision.
const retryAfterSeconds = 1

// AuthorizeDiscovered returns an API status unless the user may operate a discovered
// machine: 403 without the verb operate on the subresource discovered of the resource, 503 if
// the authorizer makes no decision within authorizeTimeout.
func (r *Resolver) AuthorizeDiscovered(ctx context.Context, u user.Info, resource schema.GroupResource, namespace, name string) error {
	return r.authorizeOperation(ctx, u, operateVerb, discoveredSubresource, resource, namespace, name,
		"the machine is discovered, not allocated by this API, and operating it needs that right besides the one to the subresource")
}

// AuthorizeReinstall returns an API status unless the user may reinstall a machine: 403
// without the verb create on the subresource reinstall of the resource, 503 if the authorizer makes
// no decision within authorizeTimeout. It is for requests of other subresources that come to the same.
func (r *Resolver) AuthorizeReinstall(ctx context.Context, u user.Info, resource schema.GroupResource, namespace, name string) error {
	return r.authorizeOperation(ctx, u, "create", "reinstall", resource, namespace, name,
		"the next boot from the network wipes the disks of the machine and installs it, which needs that right besides the one to the subresource power")
}

func (r *Resolver) authorizeOperation(ctx context.Context, u user.Info, verb, subresource string, resource schema.GroupResource, namespace, name, why string) error {
	allowed, err := r.authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: verb, Namespace: namespace, Name: name,
		APIGroup: resource.Group, Resource: resource.Resource, Subresource: subresource,
	})
	what := resource.Resource + "/" + subresource
	switch {
	case err != nil:
		return undecided(ctx, err, u, verb, what, namespace, name)
	case !allowed:
		return apierrors.NewForbidden(resource, name, fmt.Errorf("user %q cannot %s resource %q in API group %q in the namespace %q: %s",
			u.GetName(), verb, what, resource.Group, namespace, why))
	}
	return nil
}

// undecided is the answer while the authorizer makes no decision.
func undecided(ctx context.Context, err error, u user.Info, verb, what, namespace, name string) error {
	if ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Failed to authorize", "user", u.GetName(), "verb", verb, "resource", what, "namespace", namespace, "name", name)
	}
	unavailable := apierrors.NewServiceUnavailable(fmt.Sprintf("authorizer unavailable: cannot check whether user %q may %s %s: retry", u.GetName(), verb, what))
	unavailable.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfterSeconds}
	return unavailable
}
