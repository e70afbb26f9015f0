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

// adoptable are a network and an address that people allocated in our project,
// as specs that name one of them.
func (w *environment) adoptable() map[string]func(*infrastructure.MetalStackCluster) {
	w.t.Helper()
	n, err := w.client.AllocateNetwork(w.context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "by-hand"})
	require.NoError(w.t, err)
	ip, err := w.client.AllocateIP(w.context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Name: "by-hand", Type: metal.TypeStatic})
	require.NoError(w.t, err)
	return map[string]func(*infrastructure.MetalStackCluster){
		"network": func(c *infrastructure.MetalStackCluster) { c.Spec.PrivateNetworkID = n.ID },
		"address": func(c *infrastructure.MetalStackCluster) { c.Spec.ControlPlaneEndpoint.Host = ip.Address },
	}
}

// adopters are the clusters that hold what was adopted.
func (w *environment) adopters() (names []string) {
	all, err := w.clusters.List(w.context())
	require.NoError(w.t, err)
	for _, c := range all {
		if a := newClusterRecord(c).allocation(); a.NetworkAdopted || a.IPAdopted {
			names = append(names, c.Name)
		}
	}
	return names
}

// overtaking lets something happen right after all clusters were looked at.
type overtaking struct {
	*memRecords[*infrastructure.MetalStackCluster]
	then func()
}

func (o *overtaking) List(ctx context.Context) ([]*infrastructure.MetalStackCluster, error) {
	all, err := o.memRecords.List(ctx)
	if then := o.then; then != nil {
		o.then = nil
		then()
	}
	return all, err
}

// TestTwoClustersThatNameTheSame: of two that want one network, or one address,
// at the same time, at least one steps back, and one has it in the end.
func TestTwoClustersThatNameTheSame(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			spec := w.adoptable()[what]
			w.cluster("first", spec)
			w.cluster("second", spec)
			var second error
			look := &overtaking{memRecords: w.clusters, then: func() {
				_, second = w.newProtocol().AllocateCluster(w.context(), teamA, "second", body(""))
			}}
			w.p.clusters = newClusterRecords(look)
			_, first := w.allocateCluster("first")
			require.Nil(t, look.then, "nobody looked")
			require.True(t, first != nil || second != nil, "both have it")
			for _, err := range []error{first, second} {
				if err != nil {
					require.True(t, apierrors.IsInvalid(err), "%v", err)
					require.ErrorContains(t, err, "belongs to another MetalStackCluster")
				}
			}
			w.advance(w.p.timing.Backoff + time.Second)
			_, _ = w.allocateCluster("first")
			assert.Equal(t, []string{"first"}, w.adopters())
		})
	}
}

// TestWhatAnotherClusterIsGettingIsNotAdopted: metal that carries the identity
// of an attempt whose answer was lost is that attempt's.
func TestWhatAnotherClusterIsGettingIsNotAdopted(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.cluster("first")
			reached := w.crashAt(w.p, what+"/called", 1)
			_, err := w.allocateCluster("first")
			require.Error(t, err)
			require.True(t, reached())
			w.p = w.newProtocol()
			w.cluster("second", func(c *infrastructure.MetalStackCluster) {
				books := w.sim.Books()
				for _, n := range books.Networks {
					if what == "network" && n.Labels[metal.TagName] == "first" {
						c.Spec.PrivateNetworkID = n.ID
					}
				}
				for _, ip := range books.IPs {
					if value, _ := metal.TagValue(ip.Tags, metal.TagName); what == "address" && value == "first" {
						c.Spec.ControlPlaneEndpoint.Host = ip.Address
					}
				}
				require.NotEmpty(t, c.Spec.PrivateNetworkID+c.Spec.ControlPlaneEndpoint.Host)
			})
			_, err = w.allocateCluster("second")
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "belongs to another MetalStackCluster")
			_, err = w.allocateCluster("first")
			require.NoError(t, err)
			w.gone(w.p)
		})
	}
}

// unlistable are records of which no list can be had.
type unlistable struct {
	*memRecords[*infrastructure.MetalStackCluster]
}

func (*unlistable) List(context.Context) ([]*infrastructure.MetalStackCluster, error) {
	return nil, apierrors.NewServiceUnavailable("the ledger is away")
}

// TestNothingIsAdoptedWhileOthersCannotBeAsked: the cluster is a claim again, and
// says that it was not the metal-api's fault.
func TestNothingIsAdoptedWhileOthersCannotBeAsked(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.cluster("cluster", w.adoptable()[what])
			w.p.clusters = newClusterRecords(&unlistable{w.clusters})
			_, err := w.allocateCluster("cluster")
			require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
			require.ErrorContains(t, err, "the ledger is away")
			require.NotContains(t, err.Error(), "metal-api")
			require.Empty(t, w.clusterRecord("cluster").Status.Allocation.Phase)
		})
	}
}
