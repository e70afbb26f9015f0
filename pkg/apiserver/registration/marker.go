// SPDX-License-Identifier: Apache-2.0

package registration

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Labels of a marker that Cluster API and clusterctl read.
const (
	contractLabel   = "cluster.x-k8s.io/v1beta2"
	providerLabel   = "cluster.x-k8s.io/provider"
	provider        = "infrastructure-metal-stack"
	clusterctlLabel = "clusterctl.cluster.x-k8s.io"
)

// kinds are the kinds with a marker.
var kinds = []string{
	"MetalStackCluster", "MetalStackClusterTemplate", "MetalStackFirewall", "MetalStackIP", "MetalStackMachine", "MetalStackMachineTemplate",
	"MetalStackNetwork", "MetalStackRemediation", "MetalStackRemediationTemplate",
}

// plural is the plural of a kind, as Cluster API forms it.
func plural(kind string) string { return strings.ToLower(kind) + "s" }

// definition caches which versions a definition of that resource version serves.
type definition struct {
	resourceVersion string
	serves          []string
}

// servedByOthers returns, for the name of each version's APIService, the definitions of others
// that serve it.
func (r *Registrar) servedByOthers(ctx context.Context, inGroups []*metav1.PartialObjectMetadata) (map[string][]string, error) {
	others, known := map[string][]string{}, map[string]definition{}
	for _, m := range inGroups {
		d := r.serves[m.Name]
		if d.resourceVersion != m.ResourceVersion {
			obj, err := r.get(ctx, definitions, m.Name)
			if err != nil {
				return nil, fmt.Errorf("failed to reconcile CustomResourceDefinition %s: %w", m.Name, err)
			}
			if obj == nil {
				continue
			}
			d = definition{m.ResourceVersion, served(obj)}
		}
		known[m.Name] = d
		if r.isMarked(m.Labels) {
			continue
		}
		for _, version := range d.serves {
			name := version + "." + groupOf(m.Name)
			others[name] = append(others[name], m.Name)
		}
	}
	r.serves = known
	for _, names := range others {
		slices.Sort(names)
	}
	return others, nil
}

// served are the versions that a definition serves.
func served(obj *unstructured.Unstructured) []string {
	var names []string
	versions, _, _ := unstructured.NestedSlice(obj.Object, "spec", "versions")
	for _, v := range versions {
		if version, ok := v.(map[string]any); ok && version["served"] == true {
			name, _ := version["name"].(string)
			names = append(names, name)
		}
	}
	return names
}

// reconcileMarker reconciles the marker of a kind. A definition of its name that serves
// versions, and has not the label of this server, belongs to another provider.
func (r *Registrar) reconcileMarker(ctx context.Context, kind string) error {
	name := plural(kind) + "." + infrastructure.GroupName
	existing, err := r.get(ctx, definitions, name)
	if err != nil {
		return fmt.Errorf("failed to reconcile CustomResourceDefinition %s: %w", name, err)
	}
	if existing != nil && !r.isMarked(existing.GetLabels()) {
		if versions := served(existing); len(versions) > 0 {
			r.reportConflict(ctx, reference(existing), ReasonMarkerTaken, fmt.Sprintf(
				"CustomResourceDefinition %s serves %s, so it belongs to another provider and cannot mark the version of %s that this server serves. "+
					"Two providers of the same kind cannot be installed in one cluster", name, strings.Join(versions, ", "), kind))
			return nil
		}
	}
	if err := r.apply(ctx, definitions, existing, r.marker(name, kind)); err != nil {
		return fmt.Errorf("failed to reconcile CustomResourceDefinition %s: %w", name, err)
	}
	return nil
}

// marker is a definition that serves nothing.
func (r *Registrar) marker(name, kind string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": definitions.GroupVersion().String(),
		"kind":       "CustomResourceDefinition",
		"metadata": map[string]any{
			"name": name,
			"labels": map[string]any{
				contractLabel:     v1alpha4.SchemeGroupVersion.Version,
				providerLabel:     provider,
				clusterctlLabel:   "",
				RegisteredByLabel: r.Namespace,
			},
		},
		"spec": map[string]any{
			"group": infrastructure.GroupName,
			"scope": "Namespaced",
			"names": map[string]any{
				"kind": kind, "listKind": kind + "List",
				"plural": plural(kind), "singular": strings.ToLower(kind),
			},
			"versions": []any{map[string]any{
				"name": v1alpha4.SchemeGroupVersion.Version, "served": false, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true,
					"description": "Served by metalstack-apiserver. This definition only marks the version for Cluster API.",
				}},
			}},
		},
	}}
}
