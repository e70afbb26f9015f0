// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// The networks and addresses beside those of the fleet's machines.
const (
	networksPerProject  = 20
	addressesPerProject = 50
)

// furnish allocates networks and static addresses in each project of the resting fleet, once.
var furnish = sync.OnceFunc(func() {
	for i, project := range resting.projects {
		partition := fmt.Sprintf("fra-%02d", i%10+1)
		for n := range networksPerProject {
			_, err := resting.Sim.AllocateNetworkFor(project, partition, fmt.Sprintf("network-%d", n), nil)
			must(err)
		}
		for range addressesPerProject {
			_, err := resting.Sim.AllocateIPFor(project, "internet-"+partition, "address", nil)
			must(err)
		}
	}
})

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// catalogueKinds are what a spec can name; namespaced ones are read in one namespace and in all.
var catalogueKinds = []struct {
	resource   string
	namespaced bool
}{
	{"metalstackpartitions", false}, {"metalstacksizes", false}, {"metalstackimages", false},
	{"metalstackprojects", true}, {"metalstacknetworks", true}, {"metalstackips", true},
}

// Lists of the catalogue's kinds, from the view and consistent, with how many objects there are, how
// many answers were stale, and how long the metal-api was busy for each.
func BenchmarkCatalogueLists(b *testing.B) {
	start(b)
	furnish()
	client, err := dynamic.NewForConfig(resting.Config)
	require.NoError(b, err)
	for _, kind := range catalogueKinds {
		namespaces := map[string]string{"all": ""}
		if kind.namespaced {
			namespaces["namespace"] = resting.projects[0]
		}
		for scope, namespace := range namespaces {
			resource := client.Resource(v1alpha4.SchemeGroupVersion.WithResource(kind.resource)).Namespace(namespace)
			var items int
			read := func(b *testing.B, rv string) {
				l, err := resource.List(b.Context(), metav1.ListOptions{ResourceVersion: rv})
				require.NoError(b, err)
				items = len(l.Items)
			}
			// The first read of networks and addresses has them observed.
			for deadline := time.Now().Add(2 * time.Minute); ; {
				if _, err := resource.List(b.Context(), metav1.ListOptions{}); err == nil {
					break
				} else if time.Now().After(deadline) {
					b.Fatal(err)
				}
			}
			for name, rv := range map[string]string{"view": "0", "consistent": ""} {
				b.Run(kind.resource+"/"+scope+"/"+name, func(b *testing.B) {
					resting.warnings.Store(0)
					resting.Sim.ResetCalls()
					n := 0
					for b.Loop() {
						read(b, rv)
						n++
					}
					b.ReportMetric(float64(items), "objects")
					b.ReportMetric(float64(resting.warnings.Load())/float64(n), "stale/list")
					b.ReportMetric(float64(resting.Sim.BusyTime().Milliseconds())/float64(n), "busy-ms/list")
				})
			}
		}
	}
}

// What watches of all of the catalogue's kinds cost in five minutes, in whose beginning a machine is
// released by another client: how long the metal-api is busy, how many events are delivered, how
// long the first takes; and how much memory networks and addresses take that were read.
func BenchmarkCatalogueWatches(b *testing.B) {
	start(b)
	furnish()
	before := heap()
	client, err := dynamic.NewForConfig(resting.Config)
	require.NoError(b, err)
	const window = 5 * time.Minute
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		var watchers sync.WaitGroup
		var events, first atomic.Int64
		var began time.Time
		opened := make(chan struct{})
		for _, kind := range catalogueKinds {
			resource := client.Resource(v1alpha4.SchemeGroupVersion.WithResource(kind.resource))
			var list *unstructured.UnstructuredList
			require.Eventually(b, func() bool {
				list, err = resource.List(ctx, metav1.ListOptions{})
				return err == nil
			}, 2*time.Minute, time.Second)
			w, err := resource.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
			require.NoError(b, err)
			watchers.Go(func() {
				<-opened
				for range w.ResultChan() {
					events.Add(1)
					first.CompareAndSwap(0, int64(time.Since(began)))
				}
			})
		}
		memory := heap()
		resting.Sim.ResetCalls()
		began = time.Now()
		close(opened)
		require.NoError(b, resting.Sim.ForceFree(resting.machines[resting.projects[1]][0]))
		<-time.After(window)
		b.ReportMetric(100*resting.Sim.BusyTime().Seconds()/window.Seconds(), "%busy")
		b.ReportMetric(float64(events.Load()), "events")
		b.ReportMetric(time.Duration(first.Load()).Seconds(), "s/first-event")
		b.ReportMetric(float64(int64(memory)-int64(before))/1e6, "MB")
		cancel()
		watchers.Wait()
	}
	b.ReportMetric(0, "ns/op")
}
