// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// hostedControlPlaneBringsTheEndpoint: the provider waits for the infrastructure, for its
// endpoint in it and in the Cluster, and may write it to neither. The address is one of a
// metal-stack network that the project does not have.
func hostedControlPlaneBringsTheEndpoint(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	const name, endpoint = "hibiscus", "203.0.113.250:6443"
	before, key := projectMetal.Inventory(), types.NamespacedName{Namespace: namespace, Name: name}
	plays := installKamaji(t, env.Management, key, endpoint)
	c := env.Order(t, Order{Namespace: namespace, Name: name, Flavor: "kamaji", ControlPlane: 2, Workers: 1})
	infra := &v1alpha4.MetalStackCluster{}
	read := func(ctx context.Context) error { return c.Client.Get(ctx, key, infra) }
	framework.Eventually(t, slow, func(ctx context.Context) error {
		if err := read(ctx); err != nil {
			return err
		}
		set := meta.FindStatusCondition(infra.Status.Conditions, infrastructure.ConditionControlPlaneEndpointSet)
		if !ptr.Deref(infra.Status.Initialization.Provisioned, false) || set == nil {
			return errors.New("the infrastructure is not provisioned")
		}
		assert.Equal(t, infrastructure.ReasonWaitingForControlPlane, set.Reason)
		return nil
	})
	assert.Zero(t, infra.Spec.ControlPlaneEndpoint)
	err := plays.Patch(t.Context(), infra.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"controlPlaneEndpoint":{"host":"203.0.113.250","port":6443}}}`)))
	require.True(t, apierrors.IsForbidden(err), "%v", err)

	plays.run(t)
	framework.Eventually(t, slow, func(context.Context) error { return plays.waitsFor() })
	c.AwaitMachines(t, slow, 0, 1)
	require.NoError(t, read(t.Context()))
	assert.Equal(t, v1alpha4.APIEndpoint{Host: "203.0.113.250", Port: 6443}, infra.Spec.ControlPlaneEndpoint)
	assert.True(t, meta.IsStatusConditionTrue(infra.Status.Conditions, infrastructure.ConditionControlPlaneEndpointSet))
	ordered, err := c.Cluster(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "203.0.113.250", ordered.Spec.ControlPlaneEndpoint.Host)
	for _, line := range strings.Split(projectMetal.Inventory(), "\n") {
		if strings.HasPrefix(line, "ip ") {
			assert.NotContains(t, line, infrastructure.UIDTag, "no address is allocated for the cluster")
		}
	}
	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
}
