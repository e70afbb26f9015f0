// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// slow is how long what takes seconds may take on a busy machine.
const slow = 6 * time.Minute

// environment is one management cluster for all tests that can share it, and a
// namespace and project for each.
type environment struct {
	*Management
	taken int
}

// newEnvironment has a Site of its own. There are no load balancers that would have
// to forget a machine.
func newEnvironment(t *testing.T, opts Options) *environment {
	t.Helper()
	opts.Site = StartSite(t, simulator.Config{Speed: 200, DataCentre: DataCentre(64)})
	opts.ManagerFlags = append(opts.ManagerFlags, "--load-balancer-grace-period=0")
	return &environment{Management: Start(t, opts)}
}

// team is a namespace of a test's own, and the projectMetal of its project.
func (env *environment) team(t *testing.T) (namespace string, projectMetal ProjectMetal) {
	t.Helper()
	i := env.taken
	env.taken++
	namespace = fmt.Sprintf("team-%d", i)
	env.Bind(t, namespace, Projects[i])
	return namespace, env.Site.ProjectMetal(Projects[i])
}

// awaitProjectMetal waits until a project holds what it held.
func awaitProjectMetal(t *testing.T, projectMetal ProjectMetal, before string) {
	t.Helper()
	framework.Eventually(t, slow, func(context.Context) error {
		if now := projectMetal.Inventory(); now != before {
			return fmt.Errorf("the project holds %q, and held %q", now, before)
		}
		return nil
	})
}

// hardwareOf is the MetalStackMachine of a Machine.
func (tenant *Tenant) hardwareOf(ctx context.Context, t *testing.T, machine *clusterv1.Machine) *v1alpha4.MetalStackMachine {
	t.Helper()
	hardware := &v1alpha4.MetalStackMachine{}
	require.NoError(t, tenant.Client.Get(ctx, types.NamespacedName{Namespace: tenant.Key.Namespace, Name: machine.Spec.InfrastructureRef.Name}, hardware))
	return hardware
}

// awaitCondition waits until a MetalStackMachine's condition is as wanted.
func (tenant *Tenant) awaitCondition(t *testing.T, key types.NamespacedName, kind string, wanted func(*metav1.Condition) bool) {
	t.Helper()
	framework.Eventually(t, slow, func(ctx context.Context) error {
		hardware := &v1alpha4.MetalStackMachine{}
		if err := tenant.Client.Get(ctx, key, hardware); err != nil {
			return err
		}
		condition := meta.FindStatusCondition(hardware.Status.Conditions, kind)
		if condition == nil || !wanted(condition) {
			return fmt.Errorf("%s: %s: %+v", key, kind, condition)
		}
		return nil
	})
}

// awaitGone waits until a Machine is gone.
func (tenant *Tenant) awaitGone(t *testing.T, machine *clusterv1.Machine) {
	t.Helper()
	framework.Eventually(t, slow, func(ctx context.Context) error {
		now := &clusterv1.Machine{}
		err := tenant.Client.Get(ctx, client.ObjectKeyFromObject(machine), now)
		if err == nil {
			return fmt.Errorf("%s", describe(now))
		}
		return client.IgnoreNotFound(err)
	})
}
