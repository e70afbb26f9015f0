// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	infrastructureclient "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// offersFixture is a server with an allocated cluster, and a client that keeps warnings.
type offersFixture struct {
	*testserver.Server
	api     infrastructureclient.InfrastructureV1alpha4Interface
	got     received
	network string
}

func newOffersFixture(t *testing.T) *offersFixture {
	f := &offersFixture{Server: testserver.Start(t, testserver.Options{Memory: true})}
	config := rest.CopyConfig(f.Config)
	config.WarningHandler = &f.got
	client, err := versioned.NewForConfig(config)
	require.NoError(t, err)
	f.api = client.InfrastructureV1alpha4()
	clusters := f.api.MetalStackClusters(testserver.NamespaceA)
	_, err = clusters.Create(t.Context(), &api.MetalStackCluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: api.MetalStackClusterSpec{
		Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork,
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	c, err := clusters.Allocate(t.Context(), "c", &api.Allocation{ObjectMeta: metav1.ObjectMeta{Name: "c"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	f.network = c.Status.Allocation.NetworkID
	return f
}

// dryCreate returns the warnings about the allocation of a machine that is created in a dry run.
func (f *offersFixture) dryCreate(ctx context.Context, t *testing.T, namespace, network string) (warned []string) {
	t.Helper()
	f.got.mu.Lock()
	f.got.said = nil
	f.got.mu.Unlock()
	_, err := f.api.MetalStackMachines(namespace).Create(ctx, &api.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{GenerateName: "m-"}, Spec: api.MetalStackMachineSpec{
		Image: simulator.MachineImage, MachineType: simulator.LargeSize, Partition: simulator.DefaultPartition, Networks: []string{network},
	}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	f.got.mu.Lock()
	defer f.got.mu.Unlock()
	for _, text := range f.got.said {
		for _, prefix := range []string{infrastructure.AllocationWouldBeRefused, infrastructure.AllocationUnknown, infrastructure.AllocationNote} {
			if strings.HasPrefix(text, prefix) {
				warned = append(warned, text)
			}
		}
	}
	return warned
}

// A dry run knows what the metal-api would refuse, also what was changed in the metal-api a moment
// ago, and shows tenants nothing of each other but sums.
func TestDryRun_KnowsWhatIsLeftOfTheFleet(t *testing.T) {
	t.Parallel()
	f := newOffersFixture(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.Empty(t, f.dryCreate(ctx, t, testserver.NamespaceA, f.network))

	// What tenants ask for often costs the metal-api once; machines are observed within the budget
	// of reads.
	endpoints := []string{"network-get", "network-find", "size-reservation-list", "filesystemlayout-list", "size-image-constraint-list"}
	calls := func() (n int) {
		for _, endpoint := range endpoints {
			n += f.Metal.Sim.CallsOf(endpoint)
		}
		return n
	}
	before, finds, lists := calls(), f.Metal.Sim.CallsOf("machine-find"), f.Metal.Sim.CallsOf("machine-list")
	began := time.Now()
	for range 30 {
		require.Empty(t, f.dryCreate(ctx, t, testserver.NamespaceA, f.network))
	}
	// On a slow machine what was read gets old meanwhile, and sweeps go on.
	seconds := int(time.Since(began) / time.Second)
	assert.Less(t, calls()-before, 15+len(endpoints)*seconds)
	assert.Less(t, f.Metal.Sim.CallsOf("machine-find")-finds, 5+seconds, "that the name is free is known without a find")
	assert.Less(t, f.Metal.Sim.CallsOf("machine-list")-lists, 10+5*seconds)

	total, left := 0, 2
	for _, m := range f.Metal.Sim.Inventory().Machines {
		if m.Size != simulator.LargeSize || m.Partition != simulator.DefaultPartition {
			continue
		}
		total++
		if left--; left < 0 {
			require.NoError(t, f.Metal.Sim.Lock(m.ID, "x"))
		}
	}
	_, err := f.Metal.Sim.ReserveSize(simulator.ProjectB, simulator.LargeSize, simulator.DefaultPartition, 2)
	require.NoError(t, err)
	refused := fmt.Sprintf("no machine available: 0 of %d %s in %s are available (free: 2, reserved for other projects: 2)", total, simulator.LargeSize, simulator.DefaultPartition)
	require.Eventually(t, func() bool { // Reservations may be five seconds old.
		found := f.dryCreate(ctx, t, testserver.NamespaceA, f.network)
		return len(found) == 1 && found[0] == infrastructure.AllocationWouldBeRefused+refused
	}, time.Minute, 500*time.Millisecond, "%q", f.got.said)

	theirs, err := f.Metal.Sim.AllocateNetworkFor(simulator.ProjectB, simulator.DefaultPartition, "theirs", nil)
	require.NoError(t, err)
	assert.Empty(t, f.dryCreate(ctx, t, testserver.NamespaceB, theirs), "they are reserved for this one")

	// The dry run of the allocation, and the allocation, refuse the same.
	machines := f.api.MetalStackMachines(testserver.NamespaceA)
	_, err = machines.Create(ctx, &api.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Spec: api.MetalStackMachineSpec{
		Image: simulator.MachineImage, MachineType: simulator.LargeSize, Partition: simulator.DefaultPartition, Networks: []string{f.network},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, dry := range [][]string{{metav1.DryRunAll}, nil} {
		_, err = machines.Allocate(ctx, "node", &api.Allocation{ObjectMeta: metav1.ObjectMeta{Name: "node"}}, metav1.CreateOptions{DryRun: dry})
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		assert.ErrorContains(t, err, refused)
		assert.NotContains(t, err.Error(), simulator.ProjectB)
	}
	// The claim that waits says it in its condition.
	m, err := machines.Get(ctx, "node", metav1.GetOptions{})
	require.NoError(t, err)
	var said string
	for _, c := range m.Status.Conditions {
		if c.Type == infrastructure.ConditionAllocated {
			said = c.Message
		}
	}
	assert.Equal(t, "refused by the metal-api: "+refused, said)
}
