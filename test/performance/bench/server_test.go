// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const machines = 10_000

// resting is one server over 10,000 machines at rest, with the budget and the
// intervals of real life, that all benchmarks of a run share.
var resting = struct {
	sync.Once
	*fleet
	*testserver.Server
	ready    time.Duration
	memory   uint64
	warnings warnings
}{}

// warnings counts answers that could not be confirmed.
type warnings struct{ atomic.Int64 }

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(int, string, string) { w.Add(1) }

// The first benchmark that needs the server starts it; it lives as long as
// the process.
func start(b *testing.B) {
	b.Helper()
	resting.Do(func() {
		resting.fleet = newFleet(owner{b}, machines)
		before := heap()
		began := time.Now()
		resting.Server = testserver.Start(owner{b}, testserver.Options{
			Metal: resting.fleet.Server, SweepInterval: 10 * time.Second, OpenAPI: true,
			Configure: func(c *apiserver.Config) { c.Extra.Observer.Budget = 0.05 },
		})
		resting.ready = time.Since(began)
		resting.Config.WarningHandler = &resting.warnings
		resting.memory = heap() - before
	})
	require.NotNil(b, resting.Server)
}

// owner is a testing.B whose end is the end of the process.
type owner struct{ *testing.B }

// Cleanup implements testing.TB.
func (owner) Cleanup(func()) {}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkStartToReady(b *testing.B) {
	start(b)
	for b.Loop() {
	}
	b.ReportMetric(resting.ready.Seconds(), "s/start")
	b.ReportMetric(float64(resting.memory)/machines, "B/machine")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkListFleetFromView(b *testing.B) {
	start(b)
	list(b, "", "0", machines)
}

func BenchmarkListNamespaceFromView(b *testing.B) {
	start(b)
	list(b, resting.projects[0], "0", perProject)
}

func list(b *testing.B, namespace, rv string, want int) {
	client := resting.Client().InfrastructureV1alpha4().MetalStackMachines(namespace)
	for b.Loop() {
		l, err := client.List(b.Context(), metav1.ListOptions{ResourceVersion: rv})
		require.NoError(b, err)
		require.Len(b, l.Items, want)
	}
}

// A consistent list of a namespace of a hundred machines beside what it could
// be made of: one find, or a hundred gets at once.
func BenchmarkConsistentListOfANamespace(b *testing.B) {
	start(b)
	project := resting.projects[0]
	ids := resting.machines[project]
	client := resting.Client().InfrastructureV1alpha4().MetalStackMachines(project)
	var ours, find, gets time.Duration
	resting.warnings.Store(0)
	n := 0
	for b.Loop() {
		n++
		ours += timed(func() {
			l, err := client.List(b.Context(), metav1.ListOptions{})
			require.NoError(b, err)
			require.Len(b, l.Items, perProject)
		})
		find += timed(func() {
			_, err := resting.Metal.Client.Machine().FindMachines(machine.NewFindMachinesParams().WithBody(
				&models.V1MachineFindRequest{AllocationProject: project}), nil)
			require.NoError(b, err)
		})
		gets += timed(func() {
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() {
					_, err := resting.Metal.Client.Machine().FindMachine(machine.NewFindMachineParams().WithID(id), nil)
					if err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(n) }
	b.ReportMetric(float64(resting.warnings.Load())/float64(n), "unconfirmed/list")
	b.ReportMetric(ms(ours), "ms/list")
	b.ReportMetric(ms(find), "ms/find")
	b.ReportMetric(ms(gets), "ms/100gets")
	b.ReportMetric(float64(ours)/float64(min(find, gets)), "x-cheaper-call")
}

// A consistent list of the fleet beside the metal-api's own list.
func BenchmarkConsistentListOfTheFleet(b *testing.B) {
	start(b)
	client := resting.Client().InfrastructureV1alpha4().MetalStackMachines("")
	var ours, plain time.Duration
	n := 0
	for b.Loop() {
		n++
		ours += timed(func() {
			l, err := client.List(b.Context(), metav1.ListOptions{})
			require.NoError(b, err)
			require.Len(b, l.Items, machines)
		})
		plain += timed(func() {
			_, err := resting.Metal.Client.Machine().ListMachines(machine.NewListMachinesParams().WithTimeout(time.Minute), nil)
			require.NoError(b, err)
		})
	}
	b.ReportMetric(ours.Seconds()/float64(n), "s/list")
	b.ReportMetric(plain.Seconds()/float64(n), "s/plain-list")
	b.ReportMetric(float64(ours)/float64(plain), "x-plain")
}

// What a thousand impatient clients cost the metal-api: all of one machine, and
// all of a namespace of a hundred. The clients are part of this process: a
// thousand lists of a hundred objects keep two cores at work for seconds.
func BenchmarkThousandConcurrentReads(b *testing.B) {
	start(b)
	project := resting.projects[1]
	client := resting.Client().InfrastructureV1alpha4().MetalStackMachines(project)
	for name, read := range map[string]func(context.Context) error{
		"Get": func(ctx context.Context) error {
			_, err := client.Get(ctx, resting.machines[project][0], metav1.GetOptions{})
			return err
		},
		"List": func(ctx context.Context) error {
			_, err := client.List(ctx, metav1.ListOptions{})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) { thousand(b, read) })
	}
}

func thousand(b *testing.B, read func(context.Context) error) {
	const clients = 1000
	resting.Sim.ResetCalls()
	resting.warnings.Store(0)
	n := 0
	for b.Loop() {
		n++
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				if err := read(b.Context()); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	looks := 0
	for _, c := range resting.Sim.Calls() {
		looks += c.Calls
	}
	b.ReportMetric(float64(looks)/float64(n), "metal-calls/1000reads")
	b.ReportMetric(float64(resting.warnings.Load())/float64(n), "unconfirmed/1000reads")
	b.ReportMetric(float64(resting.Sim.BusyTime().Milliseconds())/float64(n), "metal-ms/1000reads")
}

// From the moment a write is begun until a watcher of the fleet holds its
// event; the write alone is in it.
func BenchmarkWriteToWatch(b *testing.B) {
	start(b)
	project := resting.projects[2]
	client := resting.Client().InfrastructureV1alpha4().MetalStackMachines(project)
	m, err := client.Create(b.Context(), &v1alpha4.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"},
		Spec:       v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
	}, metav1.CreateOptions{})
	require.NoError(b, err)
	// A watch of the fleet resumes from a list of the fleet only.
	fleet := resting.Client().InfrastructureV1alpha4().MetalStackMachines("")
	listed, err := fleet.List(b.Context(), metav1.ListOptions{ResourceVersion: "0", Limit: 1})
	require.NoError(b, err)
	events, err := fleet.Watch(b.Context(), metav1.ListOptions{ResourceVersion: listed.ResourceVersion})
	require.NoError(b, err)
	defer events.Stop()
	var delivery []time.Duration
	for i := 0; b.Loop(); i++ {
		patch := []byte(`{"metadata":{"labels":{"i":"` + string(rune('a'+i%26)) + `"}}}`)
		changed, err := client.Patch(b.Context(), m.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(b, err)
		answered := time.Now()
		for e := range events.ResultChan() {
			if e.Object.(*v1alpha4.MetalStackMachine).ResourceVersion == changed.ResourceVersion {
				break
			}
		}
		delivery = append(delivery, time.Since(answered))
	}
	slices.Sort(delivery)
	b.ReportMetric(float64(delivery[len(delivery)/2].Microseconds()), "µs-after-answer-p50")
	b.ReportMetric(float64(delivery[len(delivery)*99/100].Microseconds()), "µs-after-answer-p99")
	require.NoError(b, client.Delete(context.Background(), m.Name, metav1.DeleteOptions{}))
	_, err = client.Patch(context.Background(), m.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(b, err)
}

// The share of time that the metal-api is busy for us while nobody reads and
// every machine is at rest, over two and a half sweeps.
func BenchmarkBusyAtRest(b *testing.B) {
	start(b)
	const window = 4 * time.Minute
	if testing.Short() {
		b.Skip("takes minutes")
	}
	share := 0.0
	for b.Loop() {
		resting.Sim.ResetCalls()
		began := time.Now()
		<-time.After(window)
		share = resting.Sim.BusyTime().Seconds() / time.Since(began).Seconds()
	}
	b.ReportMetric(100*share, "%busy")
	b.ReportMetric(0, "ns/op")
}

func timed(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}
