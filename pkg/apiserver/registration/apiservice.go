// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// automanagedLabel set to false prevents that the kube-apiserver replaces an
	// APIService by one of its own when a CustomResourceDefinition serves the
	// group-version.
	automanagedLabel = "kube-aggregator.kubernetes.io/automanaged"
	// groupPriority is that of a CustomResourceDefinition's APIService: the greatest
	// priority counts for all of a group, and other providers share this one.
	groupPriority = 1000
)

// version is a served version and its priority.
type version struct {
	name     string
	priority int64
}

// versions are all served versions. The preferred one has the higher priority, and both
// are lower than a CustomResourceDefinition's 100, so as not to change the preferred
// version of other providers in the group.
var versions = []version{
	{v1alpha4.SchemeGroupVersion.Version, 20},
	{v1alpha3.SchemeGroupVersion.Version, 10},
}

// reconcileAPIService reconciles the APIService of a version; others are the
// CustomResourceDefinitions that serve it, too.
func (r *Registrar) reconcileAPIService(ctx context.Context, v version, others []string) error {
	name := v.name + "." + infrastructure.GroupName
	existing, err := r.get(ctx, apiServices, name)
	if err != nil {
		return fmt.Errorf("failed to reconcile APIService %s: %w", name, err)
	}
	about := &corev1.ObjectReference{APIVersion: apiServices.GroupVersion().String(), Kind: "APIService", Name: name}
	if existing != nil {
		about = reference(existing)
	}
	if len(others) > 0 {
		r.reportConflict(ctx, about, ReasonVersionTaken, fmt.Sprintf(
			"%s is also served by CustomResourceDefinitions: %s. An APIService takes a whole group-version, so the objects of one side are unreachable. "+
				"Stop serving that version in these CustomResourceDefinitions, or delete them", name, strings.Join(others, ", ")))
	}
	switch {
	case existing == nil && len(others) > 0:
		return nil // the others were there first
	case existing != nil && !r.isOwnAPIService(existing) && len(others) > 0:
		return nil
	case existing != nil && !r.isOwnAPIService(existing):
		r.reportConflict(ctx, about, ReasonVersionTaken, fmt.Sprintf(
			"APIService %s refers to %s instead of the Service %s/%s of this server, which is therefore unreachable. If it is obsolete, delete it: kubectl delete apiservice %s",
			name, destination(existing), r.Namespace, r.Service, name))
		return nil
	}
	wanted := r.apiService(name, v)
	if err := r.apply(ctx, apiServices, existing, wanted); err != nil {
		return fmt.Errorf("failed to reconcile APIService %s: %w", name, err)
	}
	return nil
}

// isOwnAPIService returns whether an APIService has the label of this server, or refers
// to its Service.
func (r *Registrar) isOwnAPIService(service *unstructured.Unstructured) bool {
	return r.isMarked(service.GetLabels()) || destination(service) == "the Service "+r.Namespace+"/"+r.Service
}

func destination(service *unstructured.Unstructured) string {
	namespace, _, _ := unstructured.NestedString(service.Object, "spec", "service", "namespace")
	name, _, _ := unstructured.NestedString(service.Object, "spec", "service", "name")
	if name == "" {
		return "the kube-apiserver itself"
	}
	return "the Service " + namespace + "/" + name
}

func (r *Registrar) apiService(name string, v version) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiServices.GroupVersion().String(),
		"kind":       "APIService",
		"metadata": map[string]any{
			"name":   name,
			"labels": map[string]any{automanagedLabel: "false", RegisteredByLabel: r.Namespace},
		},
		"spec": map[string]any{
			"group":                 infrastructure.GroupName,
			"version":               v.name,
			"groupPriorityMinimum":  int64(groupPriority),
			"versionPriority":       v.priority,
			"caBundle":              base64.StdEncoding.EncodeToString(r.Bundle.CurrentCABundleContent()),
			"insecureSkipTLSVerify": false,
			"service":               map[string]any{"namespace": r.Namespace, "name": r.Service, "port": int64(r.Port)},
		},
	}}
}
