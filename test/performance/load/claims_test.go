// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// TestClaims_ThousandAtOnceAreAllocatedOnce compares with the same
// thousand allocations by metal-go alone. What is slow about both is the
// metal-api, which chooses machines one after the other in each partition.
func TestClaims_ThousandAtOnceAreAllocatedOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	bare := allocateBare(t, ctx)

	h := newDataCentre(t)
	s := startServer(t, h.URL, []string{namespace(0) + "=" + simulator.ProjectA})
	uids := h.createClaims(ctx, t, s.client(nil))
	h.Sim.ResetCalls()
	wire := newOutcomes()
	ours, client := &attempts{}, s.client(counted(wire)).InfrastructureV1alpha4().MetalStackMachines(namespace(0))
	bystander := bystand(ctx, s)
	err := ours.all(ctx, func(ctx context.Context, i int) (string, time.Duration, error) {
		body := &v1alpha4.Allocation{ObjectMeta: metav1.ObjectMeta{UID: uids[i]}, ClusterRef: &v1alpha4.LocalReference{Name: h.partitions[i]}}
		_, err := client.Allocate(ctx, lasting(i), body, metav1.CreateOptions{})
		if err == nil {
			return "", 0, nil
		}
		what, again := classify(err)
		if !again && !notNow(err) {
			return what, 0, err
		}
		seconds, _ := apierrors.SuggestsClientDelay(err)
		return what, max(time.Second, time.Duration(seconds)*time.Second), nil
	})
	require.NoError(t, err)
	others := bystander()

	inventory, held := h.Sim.Inventory(), map[string]bool{}
	for i, uid := range uids {
		tag := metal.Tag(metal.TagUID, string(uid))
		require.Equal(t, 1, inventory.Allocations(tag), "%s was allocated so often", lasting(i))
		holding := inventory.AllocatedWith(tag)
		require.Len(t, holding, 1)
		require.False(t, held[holding[0].ID], "%s is held twice", holding[0].ID)
		held[holding[0].ID] = true
		require.Zero(t, inventory.Frees(tag))
	}
	list, err := client.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, m := range list.Items {
		if m.Name == "bystander" {
			continue
		}
		require.Equal(t, v1alpha4.AllocationAllocated, m.Status.Allocation.Phase, m.Name)
		require.True(t, held[m.Status.Allocation.MachineID], m.Name)
	}
	t.Logf("%d claims at once, answer times of the metal-api: %t\n%s", *claims, *claimCosts, compareClaims(bare, ours, h.Sim))
	t.Logf("The claims' answers on the wire:\n%s\nMeanwhile, who has nothing to do with them:\n%s", wire.table(), others)
}

// bystand is a client that labels an object over and over; stop ends that, and
// says what became of it.
func bystand(ctx context.Context, s *server) (stop func() string) {
	s.t.Helper()
	o := newOutcomes()
	machines := s.client(counted(o)).InfrastructureV1alpha4().MetalStackMachines(namespace(0))
	_, err := machines.Create(ctx, claim("bystander", nil), metav1.CreateOptions{})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(ctx)
	var took histogram
	var wg sync.WaitGroup
	wg.Go(func() {
		pace := time.NewTicker(100 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			began := time.Now()
			_, err := machines.Patch(ctx, "bystander", types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"n":"%d"}}}`, n), metav1.PatchOptions{})
			if ctx.Err() == nil {
				o.note("label", err)
				took.add(time.Since(began))
			}
			select {
			case <-ctx.Done():
			case <-pace.C:
			}
		}
	})
	return func() string {
		cancel()
		wg.Wait()
		return o.table() + took.String()
	}
}

// createClaims creates the claims, and a cluster with a network for each
// partition, of which it has the name.
func (d *dataCentre) createClaims(ctx context.Context, t *testing.T, client versioned.Interface) []types.UID {
	t.Helper()
	api := client.InfrastructureV1alpha4()
	made := map[string]bool{}
	for _, partition := range d.partitions {
		if made[partition] {
			continue
		}
		made[partition] = true
		_, err := api.MetalStackClusters(namespace(0)).Create(ctx, &v1alpha4.MetalStackCluster{
			ObjectMeta: metav1.ObjectMeta{Name: partition},
			Spec:       v1alpha4.MetalStackClusterSpec{Partition: partition, PublicNetworkID: "internet-" + partition},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = api.MetalStackClusters(namespace(0)).Allocate(ctx, partition, &v1alpha4.Allocation{}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	uids := make([]types.UID, *claims)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i, partition := range d.partitions {
		group.Go(func() error {
			m := claim(lasting(i), nil)
			m.Spec.Partition = partition
			m, err := api.MetalStackMachines(namespace(0)).Create(ctx, m, metav1.CreateOptions{})
			if err == nil {
				uids[i] = m.UID
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	return uids
}

func compareClaims(bare, ours *attempts, sim *simulator.Simulator) string {
	var b strings.Builder
	for _, row := range []struct {
		who string
		*attempts
	}{{"metal-go alone", bare}, {"through the API server", ours}} {
		fmt.Fprintf(&b, "%-23s %8s (half of them after %s, nine of ten after %s), %d requests", row.who, row.took.Round(10*time.Millisecond),
			row.each.quantile(0.5).Round(10*time.Millisecond), row.each.quantile(0.9).Round(10*time.Millisecond), row.calls.Load())
		for words, n := range row.refused {
			fmt.Fprintf(&b, "; %d × %s", n, words)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%.2f times as long. The API server's calls of the metal-api:\n", float64(ours.took)/float64(bare.took))
	for _, c := range sim.Calls() {
		fmt.Fprintf(&b, "  %s: %d\n", c.Endpoint, c.Calls)
	}
	return b.String()
}
