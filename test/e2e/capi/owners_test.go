// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// strangeUID is that of no object.
const strangeUID = "1c2e9b1e-0000-4000-8000-00000000000f"

// ownersGetNewUIDs: after a restore that gave the owners of our objects new
// uids, the real garbage collector takes the objects of a running cluster for
// ownerless. It is refused, and Cluster API's managers and the controller manager write
// the uids that the owners have.
func ownersGetNewUIDs(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	c := env.Order(t, Order{Namespace: namespace, Name: "aster", ControlPlane: 1, Workers: 1})
	c.AwaitMachines(t, slow, 1, 1)
	firewalls := c.firewalls(t.Context(), t)
	require.NotEmpty(t, firewalls)
	c.awaitFirewall(t, firewalls)
	held, start := projectMetal.Inventory(), projectMetal.Mark()

	pause(t, c, true)
	objects := []client.Object{&v1alpha4.MetalStackCluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "aster"}}}
	for _, name := range firewalls {
		objects = append(objects, &v1alpha4.MetalStackFirewall{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	}
	hardware, err := c.Hardware(t.Context())
	require.NoError(t, err)
	for i := range hardware {
		objects = append(objects, &hardware[i])
	}
	stale := fmt.Appendf(nil, `[{"op":"replace","path":"/metadata/ownerReferences/0/uid","value":%q}]`, strangeUID)
	for _, obj := range objects {
		require.NoError(t, c.Client.Patch(t.Context(), obj, client.RawPatch(types.JSONPatchType, stale)))
	}
	for _, obj := range objects {
		env.awaitRefusal(t, obj.GetName())
		require.NoError(t, c.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj))
		require.Nil(t, obj.GetDeletionTimestamp(), obj.GetName())
	}

	pause(t, c, false)
	framework.Eventually(t, slow, func(ctx context.Context) error {
		for _, obj := range objects {
			if err := c.Client.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
				return err
			}
			if owner := obj.GetOwnerReferences()[0]; owner.UID == strangeUID {
				return fmt.Errorf("%s names %s %s by its old uid", obj.GetName(), owner.Kind, owner.Name)
			}
		}
		return nil
	})
	c.AwaitMachines(t, slow, 1, 1)
	c.awaitFirewall(t, firewalls)
	for _, kind := range []string{"machine", "firewall"} {
		assert.Equal(t, Account{Most: projectMetal.Since(start, kind).Most}, projectMetal.Since(start, kind), "no %s was allocated or freed", kind)
	}
	assert.Equal(t, held, projectMetal.Inventory())

	// What the garbage collector may delete: dependents of a Machine that is
	// deleted in the foreground. Another Machine takes its place.
	workers, err := c.Machines(t.Context(), false)
	require.NoError(t, err)
	require.NoError(t, c.Client.Delete(t.Context(), &workers[0], client.PropagationPolicy(metav1.DeletePropagationForeground)))
	c.awaitGone(t, &workers[0])
	c.AwaitMachines(t, slow, 1, 1)
	framework.Eventually(t, slow, func(context.Context) error {
		if got := projectMetal.Since(start, "machine"); got.Allocated != 1 || got.Freed != 1 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})

	c.keepMarked(t, env, projectMetal)
	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
}

// keepMarked has the machine of a MetalStackMachine kept that was marked by
// mistake, as docs/operations.md says.
func (tenant *Tenant) keepMarked(t *testing.T, env *environment, projectMetal ProjectMetal) {
	t.Helper()
	workers, err := tenant.Machines(t.Context(), false)
	require.NoError(t, err)
	hardware := tenant.hardwareOf(t.Context(), t, &workers[0])
	held, start := projectMetal.Inventory(), projectMetal.Mark()
	pause(t, tenant, true)
	require.NoError(t, tenant.Client.Delete(t.Context(), hardware))
	kept := &v1alpha4.MetalStackMachine{}
	require.NoError(t, tenant.Client.Get(t.Context(), client.ObjectKeyFromObject(hardware), kept))
	require.NotNil(t, kept.DeletionTimestamp)
	for _, patch := range []string{
		`{"metadata":{"annotations":{"clusterctl.cluster.x-k8s.io/delete-for-move":""}}}`,
		`{"metadata":{"finalizers":null}}`,
	} {
		require.NoError(t, client.IgnoreNotFound(tenant.Client.Patch(t.Context(), hardware, client.RawPatch(types.MergePatchType, []byte(patch)))))
	}
	err = tenant.Client.Get(t.Context(), client.ObjectKeyFromObject(hardware), hardware)
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	kept.ResourceVersion = ""
	require.NoError(t, tenant.Client.Create(t.Context(), kept))
	pause(t, tenant, false)
	tenant.AwaitMachines(t, slow, 1, 1)
	statusIsComplete(t, tenant)
	again := tenant.hardwareOf(t.Context(), t, &workers[0])
	assert.NotEqual(t, hardware.UID, again.UID)
	assert.Nil(t, again.DeletionTimestamp)
	assert.Equal(t, held, projectMetal.Inventory())
	assert.Zero(t, projectMetal.Since(start, "machine").Freed)
}

// awaitRefusal waits until the garbage collector was refused an object, as its
// log says.
func (env *environment) awaitRefusal(t *testing.T, name string) {
	t.Helper()
	refusal := regexp.MustCompile(regexp.QuoteMeta(name) + `\\*" is forbidden: object holds metal`)
	framework.Eventually(t, slow, func(context.Context) error {
		log, err := os.ReadFile(filepath.Join(env.plane.Dir(), "kube-controller-manager.log"))
		if err == nil && !refusal.Match(log) {
			err = fmt.Errorf("the garbage collector was not refused %s", name)
		}
		return err
	})
}
