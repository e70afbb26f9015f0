// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

const (
	// getters is how many gets are in flight at once.
	getters = 50
	// singleGets and parallelGets are how many there are, one at a time and by each
	// getter.
	singleGets, parallelGets = 100, 4
	// writeCount is how many of each write there are.
	writeCount = 25
	// savings is how much of the metal-api's time reads can use at least when it is
	// said that savings are there; spent how much at most when it is not.
	savings, spent = 10.0, 0.05
	// finds is how often the machines of a project are found.
	finds = 3
	// spendings is how often they are looked up at most while gets spend them, of which
	// each getter sends spendingGets meanwhile.
	spendings, spendingGets = 200, 5
)

// latencies are those of gets, in seconds.
type latencies struct{ single, parallel []float64 }

// gets gets objects, one at a time and then many.
func gets(ctx context.Context, e *environment, s *side, version string) (*latencies, error) {
	l, number := &latencies{}, 0
	var mu sync.Mutex
	get := func(into *[]float64) error {
		mu.Lock()
		m := e.at(number)
		number++
		mu.Unlock()
		var query []string
		if version != "" {
			query = []string{"resourceVersion", version}
		}
		a, err := s.client.get(ctx, s.path(m.namespace, m.name, query...), nil)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		*into = append(*into, a.took.Seconds())
		return nil
	}
	for range singleGets {
		if err := get(&l.single); err != nil {
			return l, err
		}
	}
	var group errgroup.Group
	for range getters {
		group.Go(func() error {
			for range parallelGets {
				if err := get(&l.parallel); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return l, group.Wait()
}

func consistentGets(ctx context.Context, e *environment, s *side) ([]float64, error) {
	l, err := gets(ctx, e, s, "")
	return []float64{quantile(l.single, 0.5), quantile(l.single, 0.99), quantile(l.parallel, 0.5), quantile(l.parallel, 0.99)}, err
}

// find is how long the metal-api's find of the machines of a project takes, at the
// median, as a client of the metal-api sees it.
func (e *environment) find(ctx context.Context, project string, want int) (float64, error) {
	var took []float64
	for range finds {
		began := time.Now()
		found, err := e.fleet.Edit.Machine().FindMachines(machine.NewFindMachinesParamsWithContext(ctx).
			WithBody(&models.V1MachineFindRequest{AllocationProject: project}), nil)
		if err != nil {
			return 0, err
		}
		if len(found.Payload) != want {
			return 0, fmt.Errorf("%d machines of %d", len(found.Payload), want)
		}
		took = append(took, time.Since(began).Seconds())
	}
	return median(took), nil
}

// saved is how much of the metal-api's time consistent reads can use at present.
func (e *environment) saved(ctx context.Context) float64 {
	e.t.Helper()
	balance, err := gauge(ctx, e.direct(), `metalstack_metal_budget_balance_seconds{account="reads"}`)
	require.NoError(e.t, err)
	return balance
}

// save restarts the server if there are no savings: they are there at the start.
func save(ctx context.Context, e *environment) {
	if e.saved(ctx) >= savings {
		return
	}
	e.restart()
}

// setQuick makes the metal-api answer at once, or as late as a real one. What the
// server has learned about its answers before is forgotten.
func (e *environment) setQuick(quick bool) {
	if e.quick == quick {
		return
	}
	e.quick = quick
	e.fleet.Sim.SetCosts(!quick)
	e.restart()
}

func (e *environment) restart() {
	e.t.Helper()
	e.server.Stop(e.t)
	e.server.Start(e.t)
	e.server.AwaitReadyWithin(e.t, readyLimit)
	e.cluster.AwaitAvailable(e.t)
}

// spend spends the savings by consistent gets, many at a time: lists leave a part of
// the savings to gets.
func spend(ctx context.Context, e *environment) {
	var number atomic.Int64
	for range spendings {
		if e.saved(ctx) <= spent {
			return
		}
		var group errgroup.Group
		for range getters {
			group.Go(func() error {
				for range spendingGets {
					m := e.at(int(number.Add(1)))
					if _, err := e.ours.client.get(ctx, e.ours.path(m.namespace, m.name), nil); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(e.t, group.Wait())
	}
	e.t.Logf("%d consistent gets left savings of %.2f s", number.Load(), e.saved(ctx))
}

// writes patches, applies, creates and deletes, one write at a time.
func writes(ctx context.Context, e *environment, s *side) (values []float64, err error) {
	clean := func(name string) error {
		_, err := s.client.send(ctx, http.MethodPatch, s.path(e.teams[0].Namespace, name), mergePatch, []byte(`{"metadata":{"finalizers":null}}`))
		return err
	}
	for _, write := range []func(i int) (*answer, error){
		func(i int) (*answer, error) {
			m := e.at(i)
			return s.client.send(ctx, http.MethodPatch, s.path(m.namespace, m.name), mergePatch, fmt.Appendf(nil, `{"metadata":{"labels":{"compare/patched":"%d"}}}`, time.Now().UnixNano()))
		},
		func(i int) (*answer, error) {
			m := e.at(i)
			return s.client.send(ctx, http.MethodPatch, s.path(m.namespace, m.name, "fieldManager", "compare", "force", "true"),
				map[string]string{"Content-Type": "application/apply-patch+yaml"},
				fmt.Appendf(nil, `{"apiVersion":%q,"kind":"MetalStackMachine","metadata":{"name":%q,"annotations":{"compare/applied":"%d"}}}`, s.version, m.name, time.Now().UnixNano()))
		},
		func(i int) (*answer, error) {
			return s.client.send(ctx, http.MethodPost, s.path(e.teams[0].Namespace, ""), nil, created(s, i))
		},
		func(i int) (*answer, error) {
			return s.client.send(ctx, http.MethodDelete, s.path(e.teams[0].Namespace, createdName(i)), nil, nil)
		},
	} {
		cpu := s.cpuSince()
		var took []float64
		for i := range writeCount {
			a, err := write(i)
			if err != nil {
				return nil, err
			}
			took = append(took, a.took.Seconds())
		}
		used, err := cpu()
		if err != nil {
			return nil, err
		}
		values = append(values, quantile(took, 0.5), used.Seconds()/writeCount)
	}
	for i := range writeCount {
		if err := clean(createdName(i)); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func createdName(i int) string { return fmt.Sprintf("created-%d", i) }

// created is an object without metal, as a controller creates it.
func created(s *side, i int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":%q,"kind":"MetalStackMachine","metadata":{"name":%q,"finalizers":[%q],"labels":{"cluster.x-k8s.io/cluster-name":%q}},`+
		`"spec":{"image":"ubuntu-24.04","machineType":"v1-small-x86","partition":"fra-01"}}`, s.version, createdName(i), finalizer, clusterName)
}

// kubectlGet lists all objects with kubectl, which asks for everything that it needs
// to know about the cluster.
func kubectlGet(ctx context.Context, e *environment, s *side) ([]float64, error) {
	cmd := e.plane.KubectlCommand(ctx, e.plane.Admin(), "get", resource+"."+s.version.Version+"."+s.version.Group, "-A", "--no-headers")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// Not the peak that wait tells: that is this process's, of which it was forked.
	lines, n, peak := bufio.NewScanner(stdout), 0, 0.0
	for lines.Scan() {
		if n++; n%100 == 1 || n == *objects {
			if size, err := memoryOf(cmd.Process.Pid, "VmHWM"); err == nil {
				peak = size
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	if n != *objects {
		return nil, fmt.Errorf("%d lines of %d", n, *objects)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return []float64{took.Seconds(), used.Seconds(), peak}, nil
}
