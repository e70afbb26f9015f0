// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// finalizerStaysWhileMetalIsHeld: a tenant who pauses a cluster, deletes it and
// takes the finalizer off would keep a network and an address each time.
func finalizerStaysWhileMetalIsHeld(t *testing.T, env *environment) {
	const ns, name = "keeping", "quota"
	env.Bind(t, ns, project("1"))
	tenant, _ := env.tenant(t, "grace", ns, "status")
	c := tenant.InfrastructureV1alpha4().MetalStackClusters(ns)
	const manager = "grace"
	applied := func(ctx context.Context, finalizers ...string) error {
		body := objects.Cluster(name)
		body.TypeMeta = metav1.TypeMeta{APIVersion: api.SchemeGroupVersion.String(), Kind: "MetalStackCluster"}
		body.Finalizers = finalizers
		text, err := json.Marshal(body)
		require.NoError(t, err)
		_, err = c.Patch(ctx, name, types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: manager, Force: ptr.To(true)})
		return err
	}
	require.NoError(t, applied(soon(t), infrastructure.ClusterFinalizer), "the manager owns the finalizer alone")
	framework.Eventually(t, limit, func(context.Context) error {
		got, err := c.Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && (got.Status.Allocation == nil || got.Status.Allocation.Phase != api.AllocationAllocated) {
			err = fmt.Errorf("%s is not allocated", name)
		}
		return err
	})
	held := env.metalOf(project("1"))
	_, err := c.Patch(soon(t), name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"",%q:""}}}`, infrastructure.PausedAnnotation, infrastructure.DeleteForMoveAnnotation), metav1.PatchOptions{})
	require.NoError(t, err)
	require.NoError(t, c.Delete(soon(t), name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}))

	for form, strip := range map[string]func(ctx context.Context) error{
		"update": func(ctx context.Context) error {
			return retry.RetryOnConflict(retry.DefaultRetry, func() error {
				got, err := c.Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				got.Finalizers = nil
				_, err = c.Update(ctx, got, metav1.UpdateOptions{})
				return err
			})
		},
		"dry run": func(ctx context.Context) error {
			_, err := c.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		},
		"merge patch": func(ctx context.Context) error {
			_, err := c.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			return err
		},
		"JSON patch": func(ctx context.Context) error {
			_, err := c.Patch(ctx, name, types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{})
			return err
		},
		"apply": func(ctx context.Context) error { return applied(ctx) },
	} {
		err := strip(soon(t))
		require.True(t, apierrors.IsForbidden(err), "%s: %v", form, err)
		require.ErrorContains(t, err, `cannot delete resource "metalstackclusters/allocation" in namespace "keeping"`, form)
	}
	// These are not refused, and take nothing off.
	require.NoError(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		got, err := c.Get(soon(t), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Finalizers = nil
		_, err = c.UpdateStatus(soon(t), got, metav1.UpdateOptions{})
		return err
	}))
	require.NoError(t, c.Delete(soon(t), name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0), PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}))
	require.NoError(t, c.DeleteCollection(soon(t), metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, metav1.ListOptions{}))
	got, err := c.Get(soon(t), name, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{infrastructure.ClusterFinalizer}, got.Finalizers)
	assert.Equal(t, held, env.metalOf(project("1")))

	// clusterctl move does this, by whom it is run.
	_, err = env.admin(t).MetalStackClusters(ns).Patch(soon(t), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	_, err = c.Get(soon(t), name, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	assert.Equal(t, held, env.metalOf(project("1")), "and the metal stays")

	// An operator sees it, and gives it back as docs/operations.md says.
	network, address := got.Status.Allocation.NetworkID, got.Status.Allocation.IPAddress
	// The server looks for it once a minute.
	framework.Eventually(t, 4*limit, func(context.Context) error {
		log := env.Servers[0].Log(t)
		for _, id := range []string{network, address} {
			if !strings.Contains(log, fmt.Sprintf(`"id":%q,"project":%q,"namespace":%q,"name":%q`, id, project("1"), ns, name)) {
				return fmt.Errorf("the log does not name %s", id)
			}
		}
		for _, kind := range []string{"network", "address"} {
			if err := env.counted(t, fmt.Sprintf("metalstack_allocation_unrecorded_metal{kind=%q} 1", kind)); err != nil {
				return err
			}
		}
		return nil
	})
	again := objects.Cluster(name)
	again.Spec.PublicNetworkID, again.Spec.PrivateNetworkID, again.Spec.ControlPlaneEndpoint = "", network, api.APIEndpoint{Host: address, Port: 6443}
	_, err = env.admin(t).MetalStackClusters(ns).Create(soon(t), again, metav1.CreateOptions{})
	require.NoError(t, err)
	body := filepath.Join(t.TempDir(), "allocation.json")
	require.NoError(t, os.WriteFile(body, fmt.Appendf(nil, `{"apiVersion":%q,"kind":"Allocation"}`, api.SchemeGroupVersion.String()), 0o600))
	framework.Eventually(t, limit, func(context.Context) error {
		_, stderr, err := env.Kubectl(t, env.Admin(), "create", "--raw", "/apis/"+api.SchemeGroupVersion.String()+"/namespaces/"+ns+"/metalstackclusters/"+name+"/allocation", "-f", body)
		if err != nil {
			return fmt.Errorf("%w: %s", err, stderr) // The controller manager may be faster, and under way.
		}
		return nil
	})
	_, stderr, err := env.Kubectl(t, env.Admin(), "-n", ns, "delete", "metalstackcluster", name)
	require.NoError(t, err, stderr)
	require.NoError(t, env.holds(project("1"), 0, 0))
	for _, ip := range env.sim.Inventory().IPs {
		// The freed address may already be another test's, in another project.
		assert.False(t, ip.Address == address && ip.Project == project("1"), "address %s was not freed", address)
	}
	framework.Eventually(t, 2*limit, func(context.Context) error {
		return env.counted(t, `metalstack_allocation_unrecorded_metal{kind="address"} 0`)
	})
}
