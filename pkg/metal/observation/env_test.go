// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// env is a simulator with a client and an observer on it, without a network
// between them: so that all of it runs in the time of a synctest bubble.
type env struct {
	t         *testing.T
	sim       *simulator.Simulator
	transport *metaltest.Transport
	client    *client.Client
	observer  *Observer
	cleanup   func(func())

	mu         sync.Mutex
	changes    [][]metal.Ref
	referenced []metal.Ref
}

type envConfig struct {
	machines int
	costs    bool
	options  Options
	timeouts client.Timeouts
	sim      simulator.Config
}

// runTest runs a test in a bubble.
func runTest(t *testing.T, cfg envConfig, test func(t *testing.T, e *env)) {
	t.Helper()
	metaltest.Run(t, metaltest.Config{Machines: cfg.machines, Costs: cfg.costs, Simulator: cfg.sim}, func(t *testing.T, m *metaltest.Environment) {
		test(t, newEnv(t, cfg, m))
	})
}

func newEnv(t *testing.T, cfg envConfig, m *metaltest.Environment) *env {
	e := &env{t: t, sim: m.Simulator, transport: m.Transport, cleanup: m.Cleanup}
	var err error
	e.client, err = client.New(client.Options{
		URL: metaltest.URL, HMAC: simulator.DefaultHMAC.Edit, AuthType: client.AuthEdit,
		Transport: e.transport, Timeouts: cfg.timeouts,
	})
	require.NoError(t, err)
	cfg.options.Changed = func(refs []metal.Ref) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.changes = append(e.changes, refs)
	}
	if cfg.options.Referenced == nil {
		cfg.options.Referenced = referencing(func() []metal.Ref {
			e.mu.Lock()
			defer e.mu.Unlock()
			return slices.Clone(e.referenced)
		})
	}
	e.observer = New(e.client, cfg.options)
	return e
}

// referencing is Options.Referenced of what records reference at the moment.
func referencing(refs func() []metal.Ref) func(uint64) metal.RefChanges {
	return func(uint64) metal.RefChanges { return metal.RefChanges{Complete: true, Added: refs()} }
}

// run runs the observer until the test ends or stop is called.
func (e *env) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.observer.Run(ctx)
	}()
	stopped := sync.OnceFunc(func() { cancel(); <-done })
	e.cleanup(stopped)
	return stopped
}

// sweep makes one sweep.
func (e *env) sweep() {
	e.t.Helper()
	require.NoError(e.t, e.observer.sweep(e.t.Context()))
}

func (e *env) reference(refs ...metal.Ref) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.referenced = append(e.referenced, refs...)
}

// unreference ends all references.
func (e *env) unreference() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.referenced = nil
}

// changed returns what Changed was called with since the last call.
func (e *env) changed() []metal.Ref {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed := slices.Concat(e.changes...)
	e.changes = nil
	return changed
}

// allocate has another client allocate machines, each with a network of the
// project, and returns their ids.
func (e *env) allocate(project string, n int) (ids []string) {
	e.t.Helper()
	network := e.network(project)
	for i := range n {
		id, err := e.sim.AllocateFor(simulator.AllocateRequest{
			Project: project, Name: fmt.Sprintf("m-%d", i), Size: simulator.SmallSize,
			Partition: simulator.DefaultPartition, Networks: []string{network},
		})
		require.NoError(e.t, err)
		ids = append(ids, id)
	}
	return ids
}

func (e *env) network(project string) string {
	e.t.Helper()
	n, err := e.client.AllocateNetwork(e.t.Context(), metal.NetworkRequest{Project: project, Partition: simulator.DefaultPartition, Name: "net"})
	require.NoError(e.t, err)
	return n.ID
}

func (e *env) machine(id string) *metal.Machine {
	e.t.Helper()
	m, presence := e.observer.Machine(id)
	require.Equal(e.t, metal.Present, presence)
	return m
}

const soon = 100 * time.Millisecond
