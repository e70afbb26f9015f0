// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/test/framework/standalone"
)

// acknowledged is what clients have answers for, so that it must be there.
type acknowledged struct {
	mu       sync.Mutex
	rounds   map[string]string // the last round that was acknowledged, by name
	revision uint64            // the highest
}

func (a *acknowledged) note(m *v1alpha4.MetalStackMachine) {
	rv, _ := strconv.ParseUint(m.ResourceVersion, 10, 64)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rounds[m.Name] = m.Labels["round"]
	a.revision = max(a.revision, rv)
}

func TestKill_AcknowledgedWritesSurvive(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sim := simtest.Start(t, simulator.Config{DataCentre: simulator.DefaultDataCentre(4)})
	s := standalone.Start(t, standalone.Options{MetalAPI: sim.URL, Bindings: []string{"team-a=" + simulator.ProjectA}})
	acked := &acknowledged{rounds: map[string]string{}}
	const rounds, writers = 4, 4
	for round := range rounds {
		client := clientOf(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		writes := make(chan struct{}, 10_000)
		for writer := range writers {
			wg.Go(func() { write(ctx, client, acked, round, writer, writes) })
		}
		for range 20 + random.IntN(60) {
			<-writes
		}
		s.Kill()
		cancel()
		wg.Wait()
		s.Start()

		list, err := clientOf(t, s).InfrastructureV1alpha4().MetalStackMachines("team-a").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		there := map[string]v1alpha4.MetalStackMachine{}
		for _, m := range list.Items {
			there[m.Name] = m
		}
		for name, round := range acked.rounds {
			require.Contains(t, there, name)
			got, _ := strconv.Atoi(there[name].Labels["round"])
			want, _ := strconv.Atoi(round)
			require.GreaterOrEqual(t, got, want, "%s went back", name)
		}
		rv, err := strconv.ParseUint(list.ResourceVersion, 10, 64)
		require.NoError(t, err)
		require.Greater(t, rv, acked.revision, "revisions go on upwards")

		events, err := clientOf(t, s).InfrastructureV1alpha4().MetalStackMachines("team-a").
			Watch(t.Context(), metav1.ListOptions{ResourceVersion: strconv.FormatUint(acked.revision, 10)})
		if err == nil {
			e := <-events.ResultChan()
			require.Equal(t, watch.Error, e.Type)
			err = apierrors.FromObject(e.Object)
			events.Stop()
		}
		require.True(t, apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "an old watch gets the answer to list again: %v", err)
	}
}

// write creates objects and changes them until the server goes away.
func write(ctx context.Context, client versioned.Interface, acked *acknowledged, round, writer int, writes chan<- struct{}) {
	machines := client.InfrastructureV1alpha4().MetalStackMachines("team-a")
	for i := 0; ctx.Err() == nil; i++ {
		created, err := machines.Create(ctx, &v1alpha4.MetalStackMachine{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d-%d-%d", round, writer, i), Labels: map[string]string{"round": "0"}},
			Spec:       v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
		}, metav1.CreateOptions{})
		if err != nil {
			return
		}
		acked.note(created)
		writes <- struct{}{}
		for change := range 3 {
			patch := fmt.Sprintf(`{"metadata":{"labels":{"round":"%d"}}}`, change+1)
			changed, err := machines.Patch(ctx, created.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			if err != nil {
				return
			}
			acked.note(changed)
			writes <- struct{}{}
		}
	}
}
