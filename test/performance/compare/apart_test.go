// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// settling is how long programs have after their start, and the controllers for
	// finding the new kinds, before they count as being at rest.
	settling = time.Minute
	// restGets is how many consistent gets there are after the rest.
	restGets = 30
	// leaseDuration is how long a standby server waits after the active one last
	// renewed the Lease.
	leaseDuration = 15 * time.Second
	// pollInterval and pollTimeout are those of the client that waits for the first
	// answer of the standby server.
	pollInterval, pollTimeout = 100 * time.Millisecond, time.Second
)

// apart are the rows of what is measured in a cluster that has one of the kinds;
// nil for those that are not selected.
type apart struct {
	start, failover, rest, restGet, memory []*row
}

// apartRows are those of the measures that are selected.
func (c *comparison) apartRows() *apart {
	pick := func(name string, rows ...*row) []*row {
		if len(c.choose([]measure{{name: name, rows: rows}})) == 0 {
			return nil
		}
		return rows
	}
	// The limits are those of 10,000 objects. Nothing may grow faster than the fleet.
	growth := float64(*objects) / 10_000
	start, rest, get, memory := fmt.Sprintf("start to ready with %d records", *objects), fmt.Sprintf("at rest with %d objects", *objects),
		fmt.Sprintf("consistent get after %s at rest", settling+*resting), fmt.Sprintf("memory with %d objects", *objects)
	return &apart{
		start: pick("start",
			&row{subject: start, part: "time", limit: 5 * max(1, growth)},
			&row{subject: start, part: "CPU of our server", limit: 3 * max(1, growth)}),
		failover: pick("failover",
			&row{subject: "first answer after kill -9 of the active one of two", limit: (leaseDuration + time.Second).Seconds()}),
		rest: pick("rest",
			restRow(rest, growth),
			&row{subject: rest, part: "CPU of kube-apiserver in either cluster", unit: secondsAMinute},
			&row{subject: rest, part: "CPU of etcd in either cluster", unit: secondsAMinute}),
		restGet: pick("rest-reads",
			&row{subject: get, part: "p50", why: realGet},
			&row{subject: get, part: "p99"},
			&row{subject: get, part: "stale, since savings were gone", unit: fraction, limit: 0.001}),
		memory: pick("memory",
			&row{subject: memory, part: "kube-apiserver, etcd and our server", unit: bytesUnit, goal: 0.6},
			&row{subject: memory, part: "kube-apiserver", unit: bytesUnit},
			&row{subject: memory, part: "etcd", unit: bytesUnit},
			&row{subject: memory, part: "our server", unit: bytesUnit},
			&row{subject: memory, part: "live heap of kube-apiserver and our server", unit: bytesUnit, goal: 0.7},
			&row{subject: memory, part: "live heap of our server", unit: bytesUnit},
			&row{subject: memory, part: "kube-controller-manager", unit: bytesUnit, goal: 1.1}),
	}
}

// smallFleet is up to how many objects the server at rest has a limit of its own.
const smallFleet = 1000

// restRow compares our server with the kube-apiserver beside it, in the same cluster. A
// small fleet has a limit: a kube-apiserver has work that depends on no fleet.
func restRow(subject string, growth float64) *row {
	r := &row{subject: subject, part: "CPU of kube-apiserver; of our server beside it", unit: secondsAMinute}
	if *objects <= smallFleet {
		r.limit = 0.3
	} else {
		r.goal = max(1, growth)
	}
	return r
}

// apart measures each kind in a cluster of its own. Ours comes first, since the
// content of the custom resources is that of our objects.
func (c *comparison) apart(t *testing.T) {
	a := c.apartRows()
	both := a.rest != nil || a.restGet != nil || a.memory != nil
	if !both && a.start == nil && a.failover == nil {
		return
	}
	var content []map[string]any
	t.Run("Ours", func(t *testing.T) {
		e := newEnvironment(t)
		e.install()
		content = e.content()
		if both {
			c.settle(t, a, e, e.ours)
		}
		if a.start != nil {
			for range *repetitions {
				c.add(a.start, false, e.measureStart()...)
			}
		}
		if a.failover != nil {
			for range *repetitions {
				c.add(a.failover, false, e.measureFailover().Seconds())
			}
		}
	})
	if !both || t.Failed() {
		return
	}
	t.Run("CustomResources", func(t *testing.T) {
		e := newEnvironment(t)
		e.fill(content)
		c.settle(t, a, e, e.theirs)
	})
}

// add adds a value to each of the rows, except where it is NaN: there is none.
func (c *comparison) add(rows []*row, theirs bool, values ...float64) {
	c.loads = append(c.loads, loadAverage())
	for i, value := range values {
		switch {
		case math.IsNaN(value):
		case theirs:
			rows[i].theirs = append(rows[i].theirs, value)
		default:
			rows[i].ours = append(rows[i].ours, value)
		}
	}
}

// settle measures what programs need without requests.
func (c *comparison) settle(t *testing.T, a *apart, e *environment, s *side) {
	theirs := e.server == nil
	time.Sleep(settling)
	if a.rest != nil || a.restGet != nil {
		kubeAPIServer, etcd, server := e.measureRest(*resting)
		if a.rest != nil && theirs {
			c.add(a.rest, true, math.NaN(), kubeAPIServer, etcd)
		} else if a.rest != nil {
			c.add(a.rest, false, server, kubeAPIServer, etcd)
			c.add(a.rest, true, kubeAPIServer)
		}
	}
	if a.restGet != nil {
		c.take(t, measure{name: "rest-reads", rows: a.restGet, run: func(ctx context.Context, e *environment, s *side) ([]float64, error) {
			var took []float64
			for i := range restGets {
				m := e.at(i)
				got, err := s.client.get(ctx, s.path(m.namespace, m.name), nil)
				if err != nil {
					return nil, err
				}
				took = append(took, got.took.Seconds())
			}
			stale := float64(s.client.stale.Load()) / restGets
			return []float64{quantile(took, 0.5), quantile(took, 0.99), stale}, nil
		}}, e, s)
	}
	if a.memory != nil {
		c.add(a.memory, theirs, e.measureMemory(t.Context(), s)...)
	}
}

// measureRest is the CPU that programs use without requests, in seconds a minute.
func (e *environment) measureRest(resting time.Duration) (kubeAPIServer, etcd, server float64) {
	e.t.Helper()
	pids := e.plane.PIDs()
	measure := func() (sum [3]time.Duration) {
		for i, pid := range []int{pids["kube-apiserver"], pids["etcd"], e.serverPID()} {
			if pid == 0 {
				continue
			}
			used, err := cpuTime(pid)
			require.NoError(e.t, err)
			sum[i] = used
		}
		return sum
	}
	before := measure()
	time.Sleep(resting)
	after := measure()
	rate := func(i int) float64 { return (after[i] - before[i]).Seconds() / resting.Minutes() }
	return rate(0), rate(1), rate(2)
}

func (e *environment) serverPID() int {
	if e.server == nil {
		return 0
	}
	return e.server.PID()
}

// measureMemory is the memory of programs that have listed everything once.
func (e *environment) measureMemory(ctx context.Context, s *side) []float64 {
	t := e.t
	t.Helper()
	for _, version := range []string{"0", ""} {
		_, err := s.client.get(ctx, s.path("", "", "resourceVersion", version), nil)
		require.NoError(t, err)
	}
	pids := e.plane.PIDs()
	resident := func(pid int) float64 {
		if pid == 0 {
			return math.NaN()
		}
		size, err := residentMemory(pid)
		require.NoError(t, err)
		return size
	}
	sum := 0.0
	for _, pid := range s.pids() {
		sum += resident(pid)
	}
	values := []float64{sum, resident(pids["kube-apiserver"]), resident(pids["etcd"]), resident(e.serverPID())}
	kubeAPIServer, err := liveHeap(ctx, s.client)
	require.NoError(t, err)
	together, server := kubeAPIServer, math.NaN()
	if e.server != nil {
		server, err = liveHeap(ctx, e.direct())
		require.NoError(t, err)
		together += server
	}
	return append(values, together, server, resident(pids["kube-controller-manager"]))
}

// measureStart is how long the server takes to get ready, and the CPU that it
// needs until then.
func (e *environment) measureStart() []float64 {
	e.t.Helper()
	e.server.Stop(e.t)
	began := time.Now()
	e.server.Start(e.t)
	e.server.AwaitReadyWithin(e.t, readyLimit)
	took := time.Since(began)
	used, err := cpuTime(e.server.PID())
	require.NoError(e.t, err)
	e.cluster.AwaitAvailable(e.t)
	return []float64{took.Seconds(), used.Seconds()}
}

// measureFailover is how long a client waits for the first answer when the active
// server is killed and another one stands by.
func (e *environment) measureFailover() time.Duration {
	t := e.t
	t.Helper()
	active, standby := e.server, e.cluster.StartServer(t)
	standby.AwaitReadyWithin(t, readyLimit)
	ctx, cancel := context.WithTimeout(t.Context(), readyLimit)
	defer cancel()
	active.Kill()
	began := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := e.poll(ctx)
		if err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.NoError(t, err)
		}
	}
	took := time.Since(began)
	active.Pod.Delete(t)
	e.server = standby
	require.Len(t, e.content(), *objects)
	return took
}

// poll lists a namespace with a short timeout.
func (e *environment) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	_, err := e.ours.client.send(ctx, http.MethodGet, e.ours.path(e.teams[1].Namespace, "", "resourceVersion", "0"), nil, nil)
	return err
}
