// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	// parts is into how many parts the time is cut at most: slow watchers are
	// there in every other one, for long enough to be cut off.
	parts = 8
	// memoryGrowth is how much more memory the last quarter may need than the
	// first, if the run is long enough to say so.
	memoryGrowth = 1.15
	memorySlack  = 16e6
	longEnough   = 10 * time.Minute
	// idleGoroutines is how many more may be there when all clients are gone: an
	// allocation whose answer was lost is searched for minutes.
	idleGoroutines = 20
)

// run is one server under load.
type run struct {
	*server
	fleet       *fleet
	outcomes    *outcomes
	deliveries  *deliveries
	samples     samples
	watchers    []*watcher
	faultPhases []string

	mu   sync.Mutex
	uids map[types.UID]bool // of claims, and whether their metal was given back
}

func TestLoad_ErrorsAreRetriableAndMemoryStaysFlat(t *testing.T) {
	f := newFleet(t, max(200, *objects))
	r := &run{fleet: f, server: startServer(t, f.URL, f.bindings()), outcomes: newOutcomes(), deliveries: newDeliveries(), uids: map[types.UID]bool{}}
	admin := r.client(nil)
	began := time.Now()
	require.NoError(t, fill(t.Context(), admin, *objects))
	t.Logf("%d objects were created in %s", *objects, time.Since(began).Round(time.Millisecond))
	r.makeClusters()
	r.hangUp()
	idle, err := r.figures(t.Context())
	require.NoError(t, err)

	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	var watches sync.WaitGroup
	r.watch(watching, &watches)
	r.stress()
	r.requireConsistent()
	stopWatching()
	watches.Wait()
	r.report()
	r.requireUnharmed()
	r.eventually("the goroutines of clients to end", func(ctx context.Context) error {
		r.hangUp()
		now, err := r.figures(ctx)
		if err == nil && now["go_goroutines"] > idle["go_goroutines"]+idleGoroutines {
			err = fmt.Errorf("%.0f goroutines, %.0f before there were clients", now["go_goroutines"], idle["go_goroutines"])
		}
		if err == nil {
			t.Logf("goroutines: %.0f before there were clients, %.0f when they were gone", idle["go_goroutines"], now["go_goroutines"])
		}
		return err
	})
}

// makeClusters gives every namespace a cluster with a network.
func (r *run) makeClusters() {
	for i := range namespaces {
		clusters := r.client(nil).InfrastructureV1alpha4().MetalStackClusters(namespace(i))
		_, err := clusters.Create(r.t.Context(), &v1alpha4.MetalStackCluster{
			ObjectMeta: metav1.ObjectMeta{Name: "c"},
			Spec:       v1alpha4.MetalStackClusterSpec{Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork},
		}, metav1.CreateOptions{})
		require.NoError(r.t, err)
		_, err = clusters.Allocate(r.t.Context(), "c", &v1alpha4.Allocation{}, metav1.CreateOptions{})
		require.NoError(r.t, err)
	}
}

// watch starts the watchers that read, and waits until each knows what is there.
func (r *run) watch(ctx context.Context, running *sync.WaitGroup) {
	for i := range *watchers {
		w := &watcher{name: fmt.Sprintf("watcher %d", i), client: r.client(nil), deliveries: r.deliveries}
		if i%4 > 0 {
			w.namespace = namespace(i)
		}
		follow := w.resume
		if i%10 < 2 {
			w.name, follow = fmt.Sprintf("reflector %d", i), w.reflect
		}
		r.watchers = append(r.watchers, w)
		running.Go(func() { follow(ctx) })
	}
	r.eventually("the watchers to know what is there", func(context.Context) error {
		for _, w := range r.watchers {
			if !w.begun() {
				return fmt.Errorf("%s does not", w.name)
			}
		}
		return nil
	})
}

// stress lets clients write, slow ones watch and the metal-api fail for the
// whole time.
func (r *run) stress() {
	ctx, cancel := context.WithTimeout(r.t.Context(), *duration)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { r.faultPhases = injectFaults(ctx, r.fleet.Sim, *duration/28) })
	wg.Go(func() { r.samples.take(ctx, r.server, *duration, 60) })
	wg.Go(func() { r.watchSlowly(ctx) })
	pace := rate.NewLimiter(rate.Limit(*writeRate), 1)
	for i := range *writers {
		w := newWriter(r.server, i, pace, r.outcomes, r.deliveries)
		if i%10 != 0 {
			wg.Go(func() { w.write(ctx) })
			continue
		}
		wg.Go(func() {
			uids := w.allocate(ctx, "c")
			r.mu.Lock()
			defer r.mu.Unlock()
			maps.Copy(r.uids, uids)
		})
	}
	wg.Wait()
}

// watchSlowly has slow watchers around in every other part of the time.
func (r *run) watchSlowly(ctx context.Context) {
	n := max(2, min(parts, int(*duration/(4*stall()))*2))
	for part := range n {
		now, cancel := context.WithTimeout(ctx, *duration/time.Duration(n))
		var wg sync.WaitGroup
		r.deliveries.slowAround(part%2 == 1)
		if part%2 == 1 {
			for i := range *slow {
				w := &slowWatcher{server: r.server, connection: i%2 == 0, outcomes: r.outcomes}
				wg.Go(func() { w.watch(now) })
			}
		}
		<-now.Done()
		wg.Wait()
		cancel()
	}
}

// requireConsistent requires that every watcher believes what a list says.
func (r *run) requireConsistent() {
	r.t.Helper()
	machines := r.client(nil).InfrastructureV1alpha4().MetalStackMachines("")
	r.eventually("all watchers to see what a list shows", func(ctx context.Context) error {
		list, err := machines.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		all := revisions(list)
		for _, w := range r.watchers {
			if err := w.compare(all); err != nil {
				return err
			}
		}
		return nil
	})
}

// requireUnharmed requires all that load must not do.
func (r *run) requireUnharmed() {
	t := r.t
	for _, failure := range r.outcomes.fatal() {
		t.Errorf("no client may see this: %s", failure)
	}
	watching := map[string]int{}
	for _, w := range r.watchers {
		for _, complaint := range w.complains {
			t.Error(complaint)
		}
		for i := range namespaces {
			if w.namespace == "" || w.namespace == namespace(i) {
				watching[namespace(i)]++
			}
		}
	}
	if missed, writes := r.deliveries.missed(watching); len(missed) > 0 {
		t.Errorf("of %d acknowledged writes %d were not delivered once to every watcher: %s", writes, len(missed), strings.Join(missed[:min(5, len(missed))], "; "))
	}
	inventory := r.fleet.Sim.Inventory()
	for uid, released := range r.uids {
		tag := metal.Tag(metal.TagUID, string(uid))
		if n := inventory.Allocations(tag); n > 1 {
			t.Errorf("the object %s was allocated %d times", uid, n)
		}
		if released && len(inventory.AllocatedWith(tag)) > 0 {
			t.Errorf("the metal of the object %s was not given back", uid)
		}
	}
	if first, last := r.samples.quarter(0), r.samples.quarter(3); *duration >= longEnough {
		require.Less(t, last.heap, first.heap*memoryGrowth+memorySlack, "the heap grows")
		require.Less(t, last.resident, first.resident*memoryGrowth+memorySlack, "memory grows")
	}
}
