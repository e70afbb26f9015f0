// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"

	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// The order in which Velero restores the resources of a namespace: these first,
// then all others by their names, and these last (its flag
// --restore-resource-priorities).
var (
	restoredFirst = []string{"secrets", "configmaps", "serviceaccounts", "clusterclasses.cluster.x-k8s.io"}
	restoredLast  = []string{"clusters.cluster.x-k8s.io", "clusterresourcesets.addons.cluster.x-k8s.io"}
)

// notBackedUp are resources that Kubernetes itself makes, and that no cluster
// needs.
var notBackedUp = []string{"events", "events.events.k8s.io", "leases.coordination.k8s.io"}

// A Backup is all that there was in a namespace.
type Backup struct {
	m         *Management
	namespace string
	resources []schema.GroupVersionResource
	objects   map[schema.GroupVersionResource][]unstructured.Unstructured
}

// Backup reads all objects of a namespace.
func (m *Management) Backup(t testing.TB, namespace string) *Backup {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(m.plane.Admin())
	require.NoError(t, err)
	lists, err := client.ServerPreferredNamespacedResources()
	require.NoError(t, err)
	b := &Backup{m: m, namespace: namespace, objects: map[schema.GroupVersionResource][]unstructured.Unstructured{}}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "create", "delete"}}, lists) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, resource := range list.APIResources {
			gvr := gv.WithResource(resource.Name)
			if slices.Contains(notBackedUp, gvr.GroupResource().String()) {
				continue
			}
			found, err := b.of(gvr).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err, gvr)
			b.resources, b.objects[gvr] = append(b.resources, gvr), found.Items
		}
	}
	slices.SortFunc(b.resources, func(x, y schema.GroupVersionResource) int {
		return strings.Compare(restoreOrder(x), restoreOrder(y))
	})
	return b
}

func restoreOrder(gvr schema.GroupVersionResource) string {
	name := gvr.GroupResource().String()
	if i := slices.Index(restoredFirst, name); i >= 0 {
		return fmt.Sprintf("0%02d", i)
	}
	if i := slices.Index(restoredLast, name); i >= 0 {
		return fmt.Sprintf("2%02d", i)
	}
	return "1" + name
}

func (b *Backup) of(gvr schema.GroupVersionResource) dynamic.ResourceInterface {
	return b.m.dynamic.Resource(gvr).Namespace(b.namespace)
}

// Lose takes all objects of the backup away without anybody acting on it, as if
// etcd had been lost. What could act is paused, and finalizers are taken off, as
// clusterctl move does it.
func (b *Backup) Lose(t testing.TB) {
	t.Helper()
	for _, gvr := range b.resources {
		if gvr.GroupResource().String() == restoredLast[0] {
			b.each(gvr, func(obj *unstructured.Unstructured) {
				_, err := b.of(gvr).Patch(t.Context(), obj.GetName(), types.MergePatchType, []byte(`{"spec":{"paused":true}}`), metav1.PatchOptions{})
				require.NoError(t, err)
			})
		}
	}
	marked := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:""}}}`, clusterctlv1.DeleteForMoveAnnotation)
	for _, step := range []func(context.Context, dynamic.ResourceInterface, string) error{
		func(ctx context.Context, of dynamic.ResourceInterface, name string) error {
			_, err := of.Patch(ctx, name, types.MergePatchType, marked, metav1.PatchOptions{})
			return err
		},
		func(ctx context.Context, of dynamic.ResourceInterface, name string) error {
			return of.Delete(ctx, name, metav1.DeleteOptions{})
		},
		func(ctx context.Context, of dynamic.ResourceInterface, name string) error {
			_, err := of.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			return err
		},
	} {
		for _, gvr := range b.resources {
			b.each(gvr, func(obj *unstructured.Unstructured) {
				if isDiscovered(obj) {
					return
				}
				if err := step(t.Context(), b.of(gvr), obj.GetName()); !apierrors.IsNotFound(err) {
					require.NoError(t, err, "%s %s", gvr.Resource, obj.GetName())
				}
			})
		}
	}
	framework.Eventually(t, clusterctlLimit, func(ctx context.Context) error {
		for _, gvr := range b.resources {
			found, err := b.of(gvr).List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, left := range found.Items {
				if left.GetDeletionTimestamp() != nil {
					return fmt.Errorf("%s %s is still there: %v", gvr.Resource, left.GetName(), left.GetFinalizers())
				}
			}
		}
		return nil
	})
}

// Restore creates all objects as Velero does it: in its order, without status,
// owners and uids, and with labels that say where they come from. change may
// change them before.
func (b *Backup) Restore(t testing.TB, change func(*unstructured.Unstructured)) {
	t.Helper()
	for _, gvr := range b.resources {
		b.each(gvr, func(obj *unstructured.Unstructured) {
			restored := obj.DeepCopy()
			unstructured.RemoveNestedField(restored.Object, "status")
			labels := restored.GetLabels()
			if labels == nil {
				labels = map[string]string{}
			}
			labels["velero.io/backup-name"], labels["velero.io/restore-name"] = "backup", "restore"
			restored.Object["metadata"] = map[string]any{}
			restored.SetNamespace(b.namespace)
			restored.SetName(obj.GetName())
			restored.SetLabels(labels)
			restored.SetAnnotations(obj.GetAnnotations())
			restored.SetFinalizers(obj.GetFinalizers())
			change(restored)
			_, err := b.of(gvr).Create(t.Context(), restored, metav1.CreateOptions{})
			switch {
			case isDiscovered(obj):
				require.True(t, apierrors.IsInvalid(err) || apierrors.IsAlreadyExists(err), "%s %s: %v", gvr.Resource, obj.GetName(), err)
			case !apierrors.IsAlreadyExists(err):
				require.NoError(t, err, "%s %s", gvr.Resource, obj.GetName())
			}
		})
	}
}

// isDiscovered reports whether an object is a network or an address without a record, which a
// restore does not make a claim.
func isDiscovered(obj *unstructured.Unstructured) bool {
	managed, found, _ := unstructured.NestedBool(obj.Object, "status", "managed")
	return found && !managed
}

func (b *Backup) each(gvr schema.GroupVersionResource, do func(*unstructured.Unstructured)) {
	for i := range b.objects[gvr] {
		do(&b.objects[gvr][i])
	}
}
