// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

// dataCentre is a data centre in which there are enough free machines for all
// claims, and in which partitions they are asked for.
type dataCentre struct {
	*simtest.Server
	partitions []string // of each claim
}

// newDataCentre has 10,000 machines in ten partitions if the metal-api takes its
// time: that grows with the fleet.
func newDataCentre(t *testing.T) *dataCentre {
	t.Helper()
	machines := *claims*3/2 + 8
	if *claimCosts {
		machines = max(machines, 10_000)
	}
	h := &dataCentre{Server: simtest.Start(t, simulator.Config{DataCentre: simulator.DefaultDataCentre(machines), Seed: *seed})}
	free := map[string]int{}
	var names []string
	for _, m := range h.Sim.Inventory().Machines {
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

// attempts are the calls that it took, and what the refused ones answered.
type attempts struct {
	took    time.Duration
	calls   atomic.Int64
	each    histogram // from the start to each success
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

func (a *attempts) succeed(after time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.each.add(after)
}

// all asks for every claim at once, and for each until it is done.
func (a *attempts) all(ctx context.Context, ask func(ctx context.Context, i int) (words string, after time.Duration, err error)) error {
	group, ctx := errgroup.WithContext(ctx)
	start := make(chan struct{})
	var began time.Time
	for i := range *claims {
		group.Go(func() error {
			<-start
			for {
				a.calls.Add(1)
				words, after, err := ask(ctx, i)
				if err != nil {
					return err
				}
				if words == "" {
					a.succeed(time.Since(began))
					return nil
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
	began = time.Now()
	close(start)
	err := group.Wait()
	a.took = time.Since(began)
	return err
}

// allocateBare is what clients get who know nothing but metal-go.
func allocateBare(t *testing.T, ctx context.Context) *attempts {
	t.Helper()
	h, a := newDataCentre(t), &attempts{}
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
