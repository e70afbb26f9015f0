// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// adoptable are a network and an address that were allocated by hand in the
// project, as specs that name one of them.
func (env *environment) adoptable() map[string]func(*infrastructure.MetalStackCluster) {
	env.t.Helper()
	n, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "by-hand"})
	require.NoError(env.t, err)
	ip, err := env.client.AllocateIP(env.context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Name: "by-hand", Type: metal.TypeStatic})
	require.NoError(env.t, err)
	return map[string]func(*infrastructure.MetalStackCluster){
		"network": func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = n.ID },
		"address": func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = ip.Address },
	}
}

// adoptingClusters are the clusters that hold what was adopted.
func (env *environment) adoptingClusters() (names []string) {
	all, err := env.clusters.List(env.context())
	require.NoError(env.t, err)
	for _, c := range all {
		if a := newClusterRecord(c).allocation(); a.NetworkAdopted || a.IPAdopted {
			names = append(names, c.Name)
		}
	}
	return names
}

// clustersWithListHook calls a function right after all clusters were listed.
type clustersWithListHook struct {
	*memRecords[*infrastructure.MetalStackCluster]
	then func()
}

func (o *clustersWithListHook) List(ctx context.Context) ([]*infrastructure.MetalStackCluster, error) {
	all, err := o.memRecords.List(ctx)
	if then := o.then; then != nil {
		o.then = nil
		then()
	}
	return all, err
}

// Of two clusters that name one network, or one address, at the same time, at
// least one steps back, and one has it in the end.
func TestAdopt_TwoClustersThatNameTheSame(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			spec := env.adoptable()[what]
			env.cluster("first", spec)
			env.cluster("second", spec)
			var second error
			look := &clustersWithListHook{memRecords: env.clusters}
			env.p.onCrashPoint = func(step string) {
				if step == what+"/begun" {
					look.then = func() {
						_, second = env.newProtocol().AllocateCluster(env.context(), teamA, "second", body(""))
					}
				}
			}
			env.p.clusters = newClusterRecords(look)
			_, first := env.allocateCluster("first")
			env.p.onCrashPoint = nil
			require.Error(t, second, "no cluster was listed")
			for _, err := range []error{first, second} {
				if err != nil {
					require.True(t, apierrors.IsInvalid(err), "%v", err)
					require.ErrorContains(t, err, "belongs to another MetalStackCluster")
				}
			}
			env.advance(env.p.timing.Backoff + time.Second)
			_, _ = env.allocateCluster("first")
			assert.Equal(t, []string{"first"}, env.adoptingClusters())
		})
	}
}

// Metal that carries the identity of an attempt whose answer was lost belongs to
// that attempt.
func TestAdopt_NotWhatOtherClusterAllocates(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.cluster("first")
			reached := env.crashAt(env.p, what+"/called", 1)
			_, err := env.allocateCluster("first")
			require.Error(t, err)
			require.True(t, reached())
			env.p = env.newProtocol()
			env.cluster("second", func(c *infrastructure.MetalStackCluster) {
				inventory := env.sim.Inventory()
				for _, n := range inventory.Networks {
					if what == "network" && n.Labels[metal.TagName] == "first" {
						c.Spec.PrivateNetworkID = n.ID
					}
				}
				for _, ip := range inventory.IPs {
					if value, _ := metal.TagValue(ip.Tags, metal.TagName); what == "address" && value == "first" {
						c.Spec.ControlPlaneEndpoint.Host = ip.Address
					}
				}
				require.NotEmpty(t, c.Spec.PrivateNetworkID+c.Spec.ControlPlaneEndpoint.Host)
			})
			_, err = env.allocateCluster("second")
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "belongs to another MetalStackCluster")
			_, err = env.allocateCluster("first")
			require.NoError(t, err)
			env.requireReleasesAll(env.p)
		})
	}
}

// clustersWithoutList are records that cannot be listed.
type clustersWithoutList struct {
	*memRecords[*infrastructure.MetalStackCluster]
}

func (*clustersWithoutList) List(context.Context) ([]*infrastructure.MetalStackCluster, error) {
	return nil, apierrors.NewServiceUnavailable("the ledger is away")
}

// The cluster is a claim again, and its condition does not blame the metal-api.
func TestAdopt_FailsWhileRecordsCannotBeListed(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.cluster("cluster", env.adoptable()[what])
			env.p.clusters = newClusterRecords(&clustersWithoutList{env.clusters})
			_, err := env.allocateCluster("cluster")
			require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
			require.ErrorContains(t, err, "the ledger is away")
			require.NotContains(t, err.Error(), "metal-api")
			require.Empty(t, env.getCluster("cluster").Status.Allocation.Phase)
		})
	}
}

// What a spec names by now may be refused; an attempt of before may still allocate.
func TestAllocateCluster_CheckThatFailsKeepsAttemptInFlight(t *testing.T) {
	t.Parallel()
	for step, name := range map[string]func(*environment, *infrastructure.MetalStackClusterSpec){
		"network/called": func(_ *environment, spec *infrastructure.MetalStackClusterSpec) { spec.PrivateNetworkID = "missing" },
		"address/called": func(env *environment, spec *infrastructure.MetalStackClusterSpec) {
			spec.ControlPlaneEndpoint.Host = env.serviceAddress(simulator.ProjectB, metal.TypeStatic)
		},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.cluster("cluster")
			reached := env.crashAt(env.p, step, 1)
			_, err := env.allocateCluster("cluster")
			require.Error(t, err)
			require.True(t, reached())
			begun := env.getCluster("cluster").Status.Allocation
			_, err = env.clusters.Update(env.context(), teamA, "cluster", func(c *infrastructure.MetalStackCluster) error {
				name(env, &c.Spec)
				return nil
			})
			require.NoError(t, err)

			env.p = env.newProtocol()
			_, err = env.p.AllocateCluster(env.context(), teamA, "cluster", body(""))
			require.Error(t, err)
			assert.Equal(t, begun, env.getCluster("cluster").Status.Allocation, "its call may be in flight")
			env.advance(env.p.timing.allocateInFlight())
			_, err = env.p.AllocateCluster(env.context(), teamA, "cluster", body(""))
			require.Error(t, err)
			assert.Empty(t, env.getCluster("cluster").Status.Allocation.Phase)
		})
	}
}
