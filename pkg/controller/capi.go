package controller

import (
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// clonedFrom is on every object that Cluster API made from a template.
const clonedFrom = "cluster.x-k8s.io/cloned-from-name"

// ownedByClusterAPI returns whether Cluster API made the object or took it
// over. Its own objects then say when metal is due, and with which user data.
func ownedByClusterAPI(obj client.Object) bool {
	for _, owner := range obj.GetOwnerReferences() {
		group, _, _ := strings.Cut(owner.APIVersion, "/")
		if group == "cluster.x-k8s.io" || strings.HasSuffix(group, ".cluster.x-k8s.io") && group != v1alpha4.GroupName {
			return true
		}
	}
	return has(obj.GetAnnotations(), clonedFrom)
}
