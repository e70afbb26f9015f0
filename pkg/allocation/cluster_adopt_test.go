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
func (w *world) adoptable() map[string]func(*infrastructure.MetalStackCluster) {
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
func (w *world) adopters() (names []string) {
	all, err := w.clusters.List(w.context())
	require.NoError(w.t, err)
	for _, c := range all {
		if a := clusterAllocation(c); a.NetworkAdopted || a.IPAdopted {
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
			w := newWorld(t)
			spec := w.adoptable()[what]
			w.cluster("first", spec)
			w.cluster("second", spec)
			var second error
			look := &overtaking{memRecords: w.clusters, then: func() {
				_, second = w.server().AllocateCluster(w.context(), teamA, "second", body(""))
			}}
			w.p.opts.Clusters = look
			_, first := w.allocateCluster("first")
			require.Nil(t, look.then, "nobody looked")
			require.True(t, first != nil || second != nil, "both have it")
			for _, err := range []error{first, second} {
				if err != nil {
					require.True(t, apierrors.IsInvalid(err), "%v", err)
					require.ErrorContains(t, err, "belongs to another cluster")
				}
			}
			w.pass(w.p.timing.Backoff + time.Second)
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
			w := newWorld(t)
			w.cluster("first")
			dead := w.server()
			reached := w.crashAt(dead, what+"/called", 1)
			go func() { _, _ = dead.AllocateCluster(w.context(), teamA, "first", body("")) }()
			w.whilePassing(func() {
				for !reached() {
					time.Sleep(time.Millisecond)
				}
			})
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
			_, err := w.allocateCluster("second")
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "belongs to another cluster")
			_, err = w.allocateCluster("first")
			require.NoError(t, err)
			w.gone(w.p)
		})
	}
}

// outdated is a metal-api of which an answer arrives when it is not true any more.
type outdated struct {
	Metal
	meanwhile func()
}

func (o *outdated) happens() {
	if do := o.meanwhile; do != nil {
		o.meanwhile = nil
		do()
	}
}

func (o *outdated) FindMachines(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
	found, err := o.Metal.FindMachines(ctx, q)
	if q.ID != "" {
		o.happens()
	}
	return found, err
}

func (o *outdated) FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error) {
	found, err := o.Metal.FindNetworks(ctx, q)
	if q.ID != "" {
		o.happens()
	}
	return found, err
}

func (o *outdated) FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error) {
	found, err := o.Metal.FindIPs(ctx, q)
	if q.Address != "" {
		o.happens()
	}
	return found, err
}

// TestWhatWasGivenBackWhileWeLookedIsNotAdopted: another object's metal that is
// gone by the time that we ask whose it is, is nobody's by the records.
func TestWhatWasGivenBackWhileWeLookedIsNotAdopted(t *testing.T) {
	t.Parallel()
	for what, ask := range map[string]func(w *world, late *Protocol, c *infrastructure.MetalStackCluster, m *infrastructure.MetalStackMachine) error{
		"network": func(w *world, late *Protocol, c *infrastructure.MetalStackCluster, _ *infrastructure.MetalStackMachine) (err error) {
			w.cluster("late", func(l *infrastructure.MetalStackCluster) { l.Spec.PrivateNetworkID = c.Status.Allocation.NetworkID })
			w.whilePassing(func() { _, err = late.AllocateCluster(w.context(), teamA, "late", body("")) })
			return err
		},
		"address": func(w *world, late *Protocol, c *infrastructure.MetalStackCluster, _ *infrastructure.MetalStackMachine) (err error) {
			w.cluster("late", func(l *infrastructure.MetalStackCluster) {
				l.Spec.ControlPlaneEndpoint.Host = c.Status.Allocation.IPAddress
			})
			w.whilePassing(func() { _, err = late.AllocateCluster(w.context(), teamA, "late", body("")) })
			return err
		},
		"machine": func(w *world, late *Protocol, _ *infrastructure.MetalStackCluster, m *infrastructure.MetalStackMachine) error {
			w.machine("late", named(m.Status.Allocation.MachineID))
			_, err := w.allocate(late, "late", "")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c, m := w.allocatedCluster("cluster"), w.node("node")
			other := &outdated{Metal: w.client}
			late := w.serverWith(other)
			other.meanwhile = func() {
				_, err := w.p.ReleaseMachine(w.context(), teamA, "node", "")
				assert.NoError(t, err)
				_, err = w.p.ReleaseCluster(w.context(), teamA, "cluster", "")
				assert.NoError(t, err)
			}
			err := ask(w, late, c, m)
			require.Nil(t, other.meanwhile, "nobody looked")
			require.ErrorContains(t, err, map[string]string{"network": "is not known in project", "address": "given back just now", "machine": "given back just now"}[what])
			assert.Empty(t, w.adopters())
			w.gone(w.p)
		})
	}
}
