// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxOwners bounds the chain of owners: Machine, MachineSet, MachineDeployment and Cluster are
// the longest.
const maxOwners = 8

// Owner is an object that owns a machine or firewall, or one of its owners.
type Owner struct {
	Kind, Name string
	// State is the owner's phase, Node the Node of a Machine.
	State, Node string
	// Deleting is true while the owner is being deleted, and Replaced if an object of its name
	// exists that has another uid.
	Deleting, Replaced bool
	// Err is why it cannot be read.
	Err error
}

// Owners reads the owners of an object, the nearest first.
func (c *Client) Owners(ctx context.Context, o *Object) []Owner {
	var owners []Owner
	refs := o.OwnerReferences
	for len(refs) > 0 && len(owners) < maxOwners {
		ref := nearest(refs)
		obj, err := c.owner(ctx, o.Namespace, ref)
		owner := Owner{Kind: ref.Kind, Name: ref.Name, Err: err}
		if err != nil {
			return append(owners, owner)
		}
		owner.State, _, _ = unstructured.NestedString(obj.Object, "status", "phase")
		owner.Node, _, _ = unstructured.NestedString(obj.Object, "status", "nodeRef", "name")
		owner.Deleting, owner.Replaced = obj.GetDeletionTimestamp() != nil, obj.GetUID() != ref.UID
		owners = append(owners, owner)
		if owner.Replaced {
			return owners
		}
		refs = obj.GetOwnerReferences()
	}
	return owners
}

// nearest returns the controller among owners, or else the first that is no Cluster.
func nearest(refs []metav1.OwnerReference) metav1.OwnerReference {
	best := refs[0]
	for _, ref := range refs {
		switch {
		case ref.Controller != nil && *ref.Controller:
			return ref
		case best.Kind == "Cluster":
			best = ref
		}
	}
	return best
}

// owner reads an owner by the resource that its kind has by convention, as Cluster API demands
// of all of its kinds.
func (c *Client) owner(ctx context.Context, namespace string, ref metav1.OwnerReference) (*unstructured.Unstructured, error) {
	group, version, _ := strings.Cut(ref.APIVersion, "/")
	resource, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: group, Version: version, Kind: ref.Kind})
	return c.dynamic.Resource(resource).Namespace(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
}
