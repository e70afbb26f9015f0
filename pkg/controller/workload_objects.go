// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// workloadManager is the field manager of what is applied in workload clusters, and the
	// value of managedByLabel.
	workloadManager = "metalstack-controller-manager"
	managedByLabel  = "app.kubernetes.io/managed-by"
	// workloadNamespace is the namespace in a workload cluster, and workloadAccount the
	// ServiceAccount of the firewall-controllers in it. Role and binding have workloadRole's name.
	workloadNamespace = "firewall"
	workloadAccount   = "firewall-controller"
	workloadRole      = "metal-stack:firewall-controller"
	// maxMonitors is how many FirewallMonitors are looked through for those that are left over.
	maxMonitors = 50
)

//go:embed workload/*.yaml
var workloadManifests embed.FS

// workloadObjects returns what every workload cluster gets, in the order in which it is applied.
func workloadObjects() ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, name := range []string{"namespace", "clusterwidenetworkpolicies", "firewallmonitors", "rbac"} {
		text, err := workloadManifests.ReadFile("workload/" + name + ".yaml")
		if err != nil {
			return nil, err
		}
		decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			obj := &unstructured.Unstructured{}
			if err := decoder.Decode(obj); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("workload/%s.yaml: %w", name, err)
			}
			all = append(all, obj)
		}
	}
	return all, nil
}

// ensureWorkloadObjects applies what a workload cluster gets.
func ensureWorkloadObjects(ctx context.Context, api client.Client, objects []*unstructured.Unstructured) error {
	for _, obj := range objects {
		if obj.GetKind() == definitionKind.Kind {
			if ours, err := isOurDefinition(ctx, api, obj.GetName()); err != nil {
				return err
			} else if !ours {
				continue
			}
		}
		err := applyWorkloadObject(ctx, api, obj)
		if apierrors.IsInvalid(err) && obj.GetKind() == "ClusterRoleBinding" {
			// A roleRef cannot be changed.
			if err := client.IgnoreNotFound(api.Delete(ctx, obj.DeepCopy())); err != nil {
				return err
			}
			err = applyWorkloadObject(ctx, api, obj)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func applyWorkloadObject(ctx context.Context, api client.Client, obj *unstructured.Unstructured) error {
	return api.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj.DeepCopy()), client.FieldOwner(workloadManager), client.ForceOwnership)
}

// isOurDefinition returns whether a definition is missing, or nothing else wrote its spec. A
// firewall-controller brings its own, which may be newer.
func isOurDefinition(ctx context.Context, api client.Client, name string) (bool, error) {
	is := &metav1.PartialObjectMetadata{}
	is.SetGroupVersionKind(definitionKind)
	if err := api.Get(ctx, client.ObjectKey{Name: name}, is); err != nil {
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	for _, entry := range is.ManagedFields {
		if entry.Subresource == "" && entry.Manager != workloadManager && entry.FieldsV1 != nil && strings.Contains(entry.FieldsV1.GetRawString(), `"f:spec"`) {
			return false, nil
		}
	}
	return true, nil
}

// deleteWorkloadObjects deletes the rights of the firewall-controllers and their monitors. The
// definitions and the namespace stay, with the policies of the users.
func deleteWorkloadObjects(ctx context.Context, api client.Client) error {
	meta := metav1.ObjectMeta{Name: workloadRole}
	for _, obj := range []client.Object{
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta}, &rbacv1.ClusterRole{ObjectMeta: meta},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: workloadNamespace, Name: workloadAccount}},
	} {
		if err := client.IgnoreNotFound(api.Delete(ctx, obj)); err != nil {
			return err
		}
	}
	return deleteMonitors(ctx, api, func(string) bool { return false })
}

// deleteMonitors deletes the monitors that were made here and are not to be kept.
func deleteMonitors(ctx context.Context, api client.Client, keep func(name string) bool) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(monitorKind.GroupVersion().WithKind(monitorKind.Kind + "List"))
	err := api.List(ctx, list, client.InNamespace(workloadNamespace), client.MatchingLabels{managedByLabel: workloadManager}, client.Limit(maxMonitors))
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	for i := range list.Items {
		if keep(list.Items[i].Name) {
			continue
		}
		list.Items[i].SetGroupVersionKind(monitorKind)
		if err := client.IgnoreNotFound(api.Delete(ctx, &list.Items[i], client.Preconditions{UID: ptr.To(list.Items[i].UID)})); err != nil {
			return err
		}
	}
	return nil
}

// newMonitor is the monitor of a firewall, in which its firewall-controller reports.
func newMonitor(f *v1alpha4.MetalStackFirewall) *unstructured.Unstructured {
	networks := []any{}
	for _, network := range f.Status.Metal.Networks {
		networks = append(networks, network.ID)
	}
	m := &unstructured.Unstructured{Object: map[string]any{
		"size": f.Status.Metal.Size, "image": f.Status.Metal.Image, "partition": f.Status.Metal.Partition, "project": f.Status.Metal.Project,
		"networks": networks, "conditions": []any{},
		"machineStatus": map[string]any{"machineID": f.Status.Metal.MachineID},
	}}
	m.SetGroupVersionKind(monitorKind)
	m.SetNamespace(workloadNamespace)
	m.SetName(f.Status.Metal.Hostname)
	m.SetLabels(map[string]string{managedByLabel: workloadManager})
	return m
}
