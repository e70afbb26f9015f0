// SPDX-License-Identifier: Apache-2.0

package outage_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

func TestMetalAPIOutage_MakesNothingDisappear(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	clusters := env.client.InfrastructureV1alpha4().MetalStackClusters(env.team.Namespace)
	machines := env.client.InfrastructureV1alpha4().MetalStackMachines(env.team.Namespace)
	_, err := clusters.Create(ctx, objects.Cluster("orchid"), metav1.CreateOptions{})
	require.NoError(t, err)
	allocated, err := clusters.Allocate(ctx, "orchid", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, name := range []string{"node-1", "claim"} {
		_, err = machines.Create(ctx, objects.Machine(name, objects.InDefaultPartition), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	node, err := machines.Allocate(ctx, "node-1", &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "orchid"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	id := node.Status.Metal.MachineID
	require.NoError(t, env.Metal.Sim.PhoneHome(id))
	discovered, err := env.Metal.Sim.AllocateFor(simulator.AllocateRequest{Project: env.team.Project, Name: "theirs", Size: simulator.SmallSize,
		Partition: simulator.DefaultPartition, Networks: []string{allocated.Status.Allocation.NetworkID}})
	require.NoError(t, err)
	env.eventually(func(ctx context.Context) error {
		node, err := machines.Get(ctx, "node-1", metav1.GetOptions{})
		if err == nil && !node.Status.Ready {
			err = fmt.Errorf("not ready: %v", node.Status.Conditions)
		}
		if err == nil {
			_, err = machines.Get(ctx, discovered, metav1.GetOptions{})
		}
		return err
	})
	list, err := machines.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	events, err := machines.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	require.NoError(t, err)
	defer events.Stop()

	comeBack := env.Metal.Sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
	all := func(o outcome) {
		t.Helper()
		require.Zero(t, o.code, o.stderr)
		for _, name := range []string{"node-1", "claim", discovered} {
			require.Contains(t, o.stdout, name)
		}
	}
	unconfirmed := `Warning: .*stale: last observed at \d{4}-\d\d-\d\dT`
	for _, args := range [][]string{{"get", "msm"}, {"get", "msm", "-A", "-o=yaml"}, {"describe", "msm"}} {
		o := env.run(env.home, "", args...)
		all(o)
		require.Regexp(t, unconfirmed, o.stderr, "%v", args)
	}
	require.Contains(t, env.kubectl("get", "msm", "node-1"), "Phoned Home")
	env.kubectl("label", "msm", "claim", "color=red")
	o := env.run(env.home, "", "patch", "msm", "claim", "--type=merge", `--patch={"spec":{"machineType":"c1-large-x86"}}`)
	require.Zero(t, o.code, o.stderr)

	// One that starts now knows nothing of the metal yet, and says so. The client
	// asks ten times more before it returns a refusal that has a Retry-After.
	env.Servers[0].Kill()
	env.Servers[0].Start(t)
	refusals := 0
	env.eventually(func(ctx context.Context) error {
		list, err := machines.List(ctx, metav1.ListOptions{})
		require.Error(t, err, "neither all nor nothing: %v", list)
		require.False(t, apierrors.IsNotFound(err), "%v", err)
		if refusals++; refusals < 4 {
			return fmt.Errorf("once more")
		}
		return nil
	})

	comeBack()
	require.NoError(t, env.Metal.Sim.SendEvent(id, "Crashed", "while nobody looked"))
	env.Servers[0].AwaitReady(t)
	env.AwaitAvailable(t)
	env.eventually(func(context.Context) error {
		o := env.run(env.home, "", "get", "msm")
		all(o)
		if o.stderr != "" {
			return fmt.Errorf("still: %s", o.stderr)
		}
		require.Contains(t, o.stdout, "Crashed")
		return nil
	})
	for {
		select {
		case e, open := <-events.ResultChan():
			if open {
				require.NotEqual(t, watch.Deleted, e.Type, "%v", e.Object)
				continue
			}
		default:
		}
		return
	}
}
