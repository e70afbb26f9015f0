package load

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

// hall is a data centre in which there are enough free machines for all claims,
// and in which partitions they are asked for.
type hall struct {
	*simtest.Server
	partitions []string // of each claim
}

// newHall has 10,000 machines in ten partitions if the metal-api takes its
// time: that grows with the fleet.
func newHall(t *testing.T) *hall {
	t.Helper()
	machines := *claims*3/2 + 8
	if *claimCosts {
		machines = max(machines, 10_000)
	}
	h := &hall{Server: simtest.Start(t, simulator.Config{DataCentre: simulator.DefaultDataCentre(machines), Seed: *seed})}
	free := map[string]int{}
	var names []string
	for _, m := range h.Sim.Books().Machines {
		if m.Size == simulator.SmallSize {
			if free[m.Partition] == 0 {
				names = append(names, m.Partition)
			}
			free[m.Partition]++
		}
	}
	for len(h.partitions) < *claims {
		for _, name := range names {
			if free[name] > 0 && len(h.partitions) < *claims {
				free[name]--
				h.partitions = append(h.partitions, name)
			}
		}
	}
	h.Sim.SetCosts(*claimCosts)
	return h
}

// attempts are the calls that it took, and what the refused ones were told.
type attempts struct {
	took    time.Duration
	calls   atomic.Int64
	mu      sync.Mutex
	refused map[string]int
}

func (a *attempts) refuse(words string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refused == nil {
		a.refused = map[string]int{}
	}
	a.refused[words]++
}

// all asks for every claim at once, and for each until it is done.
func (a *attempts) all(ctx context.Context, ask func(ctx context.Context, i int) (words string, after time.Duration, err error)) error {
	group, ctx := errgroup.WithContext(ctx)
	start := make(chan struct{})
	for i := range *claims {
		group.Go(func() error {
			<-start
			for {
				a.calls.Add(1)
				words, after, err := ask(ctx, i)
				if err != nil || words == "" {
					return err
				}
				a.refuse(words)
				pause := time.NewTimer(after)
				select {
				case <-ctx.Done():
					pause.Stop()
					return ctx.Err()
				case <-pause.C:
				}
			}
		})
	}
	began := time.Now()
	close(start)
	err := group.Wait()
	a.took = time.Since(began)
	return err
}

// TestAThousandClaimsAtOnceAreAllAllocatedAndNoneTwice compares with the same
// thousand allocations by metal-go alone. What is slow about both is the
// metal-api, which chooses machines one after the other in each partition.
func TestAThousandClaimsAtOnceAreAllAllocatedAndNoneTwice(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	bare := allocateBare(t, ctx)

	h := newHall(t)
	s := startServer(t, h.URL, []string{namespace(0) + "=" + simulator.ProjectA})
	uids := h.createClaims(ctx, t, s.client(nil))
	h.Sim.ResetCalls()
	ours, client := &attempts{}, s.client(nil).InfrastructureV1alpha4().MetalStackMachines(namespace(0))
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

	books, held := h.Sim.Books(), map[string]bool{}
	for i, uid := range uids {
		tag := metal.Tag(metal.TagUID, string(uid))
		require.Equal(t, 1, books.Allocations(tag), "%s was allocated so often", lasting(i))
		holding := books.Holding(tag)
		require.Len(t, holding, 1)
		require.False(t, held[holding[0].ID], "%s is held twice", holding[0].ID)
		held[holding[0].ID] = true
		require.Zero(t, books.Frees(tag))
	}
	list, err := client.List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, m := range list.Items {
		require.Equal(t, v1alpha4.AllocationAllocated, m.Status.Allocation.Phase, m.Name)
		require.True(t, held[m.Status.Allocation.MachineID], m.Name)
	}
	t.Logf("%d claims at once, answer times of the metal-api: %t\n%s", *claims, *claimCosts, compareClaims(bare, ours, h.Sim))
}

// createClaims creates the claims, and a cluster with a network for each
// partition, of which it has the name.
func (h *hall) createClaims(ctx context.Context, t *testing.T, client versioned.Interface) []types.UID {
	t.Helper()
	api := client.InfrastructureV1alpha4()
	made := map[string]bool{}
	for _, partition := range h.partitions {
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
	for i, partition := range h.partitions {
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

// allocateBare is what clients get who know nothing but metal-go.
func allocateBare(t *testing.T, ctx context.Context) *attempts {
	t.Helper()
	h, a := newHall(t), &attempts{}
	networks := map[string]string{}
	for _, partition := range h.partitions {
		if networks[partition] == "" {
			id, err := h.Sim.AllocateNetworkFor(simulator.ProjectA, partition, "nodes", nil)
			require.NoError(t, err)
			networks[partition] = id
		}
	}
	err := a.all(ctx, func(ctx context.Context, i int) (string, time.Duration, error) {
		name, project, partition, size, image, network := lasting(i), simulator.ProjectA, h.partitions[i], simulator.SmallSize, simulator.MachineImage, networks[h.partitions[i]]
		_, err := h.Edit.Machine().AllocateMachine(machine.NewAllocateMachineParamsWithContext(ctx).WithTimeout(5*time.Minute).WithBody(&models.V1MachineAllocateRequest{
			Name: name, Hostname: name, Projectid: &project, Partitionid: &partition, Sizeid: &size, Imageid: &image,
			Networks: []*models.V1MachineAllocationNetwork{{Networkid: &network}}, Tags: []string{"n=" + name},
		}), nil)
		if refused, ok := err.(*machine.AllocateMachineDefault); ok && refused.Code() == http.StatusUnprocessableEntity {
			return "422 " + refused.Payload.Message, 0, nil
		}
		return "", 0, err
	})
	require.NoError(t, err)
	return a
}

func compareClaims(bare, ours *attempts, sim *simulator.Simulator) string {
	var b strings.Builder
	for _, row := range []struct {
		who string
		*attempts
	}{{"metal-go alone", bare}, {"through the API server", ours}} {
		fmt.Fprintf(&b, "%-23s %8s, %d requests", row.who, row.took.Round(10*time.Millisecond), row.calls.Load())
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
