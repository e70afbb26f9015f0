// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
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

// version is a served group-version and its priority in the group.
type version struct {
	schema.GroupVersion
	priority int64
	// remedy is what an administrator can do if others serve it, too.
	remedy string
}

// name is that of the APIService.
func (v version) name() string { return v.Version + "." + v.Group }

// versions are all served versions of our own group. The preferred one has the higher
// priority, and both are lower than a CustomResourceDefinition's 100, so as not to change the
// preferred version of other providers in the group.
var versions = []version{
	{v1alpha4.SchemeGroupVersion, 20, stopServing},
	{v1alpha3.SchemeGroupVersion, 10, stopServing},
}

const stopServing = "Stop serving that version in these CustomResourceDefinitions, or delete them"

// firewalls is the version that firewall-controllers read. The group is another project's,
// and in a Gardener seed the version is served by firewall-controller-manager. An APIService
// that exists stays, as those of the other versions do: firewall-controllers that find
// their Firewalls gone drop all rules.
var firewalls = version{firewallv2.SchemeGroupVersion, 20,
	"If firewall-controller-manager uses them, remove firewallSpec.controller from all MetalStackClusters, wait until these have no condition FirewallControllerReady, " +
		"and then run this server with --serve-firewalls=false. Otherwise delete them"}

// groups are the groups of all versions.
var groups = sets.New(infrastructure.GroupName, firewallv2.GroupName)

// groupOf returns the group in the name of an APIService or a definition.
func groupOf(name string) string {
	_, group, _ := strings.Cut(name, ".")
	return group
}

// reconcileAPIService reconciles the APIService of a version; others are the
// CustomResourceDefinitions that serve it, too.
func (r *Registrar) reconcileAPIService(ctx context.Context, v version, others []string) error {
	name := v.name()
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
			"%s is also served by CustomResourceDefinitions: %s. An APIService takes a whole group-version, so the objects of one side are unreachable. %s",
			name, strings.Join(others, ", "), v.remedy))
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

// removeFirewalls deletes the APIService of Firewalls, which are not served any more, if it has
// the label of this server. While firewall-controllers read them it stays: if a
// CustomResourceDefinition serves their version, they would find their Firewalls gone.
func (r *Registrar) removeFirewalls(ctx context.Context) error {
	name := firewalls.name()
	existing, err := r.get(ctx, apiServices, name)
	if err != nil {
		return fmt.Errorf("failed to remove APIService %s: %w", name, err)
	}
	if existing == nil || !r.isMarked(existing.GetLabels()) {
		return nil
	}
	reader, err := r.firewallsReader(ctx)
	if err != nil {
		return fmt.Errorf("failed to find out whether APIService %s is in use: %w", name, err)
	}
	if reader != "" {
		r.reportConflict(ctx, reference(existing), ReasonVersionInUse, fmt.Sprintf(
			"%s is not served (--serve-firewalls=false), but stays registered: %s has a firewall-controller that reads it, and would drop its rules if another server answered. "+
				"Remove firewallSpec.controller from all MetalStackClusters, and controller from MetalStackFirewalls without one. "+
				"The APIService is deleted when no MetalStackCluster has the condition FirewallControllerReady", name, reader))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = r.client.Resource(apiServices).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(existing.GetUID())}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to remove APIService %s: %w", name, err)
	}
	klog.FromContext(ctx).Info("Unregistered", "kind", existing.GetKind(), "name", name)
	r.Events.Eventf(reference(existing), nil, corev1.EventTypeNormal, ReasonUnregistered, action, "%s was deleted: the version is not served any more", name)
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
			"group":                 v.Group,
			"version":               v.Version,
			"groupPriorityMinimum":  int64(groupPriority),
			"versionPriority":       v.priority,
			"caBundle":              base64.StdEncoding.EncodeToString(r.Bundle.CurrentCABundleContent()),
			"insecureSkipTLSVerify": false,
			"service":               map[string]any{"namespace": r.Namespace, "name": r.Service, "port": int64(r.Port)},
		},
	}}
}
