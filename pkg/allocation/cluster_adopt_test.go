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
