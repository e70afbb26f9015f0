// SPDX-License-Identifier: Apache-2.0

package client

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// env is a simulator with a client on it, without a network between them, so
// that all of it runs in the time of a synctest bubble.
type env struct {
	t         *testing.T
	sim       *simulator.Simulator
	transport *metaltest.Transport
	client    *Client
	writes    *writes
}

type envConfig struct{ sim simulator.Config }

// runTest runs a test in a bubble.
func runTest(t *testing.T, cfg envConfig, test func(t *testing.T, e *env)) {
	t.Helper()
	metaltest.Run(t, metaltest.Config{Simulator: cfg.sim}, func(t *testing.T, m *metaltest.Environment) {
		e := &env{t: t, sim: m.Simulator, transport: m.Transport, writes: &writes{}}
		var err error
		e.client, err = New(Options{
			URL: metaltest.URL, HMAC: simulator.DefaultHMAC.Edit, AuthType: AuthEdit, Transport: e.transport,
		})
		require.NoError(t, err)
		e.client.AddWriteListener(e.writes)
		test(t, e)
	})
}

// writes are the identities that answers of writes had.
type writes struct {
	metal.WriteListener

	mu   sync.Mutex
	uids []string
}

func (w *writes) add(uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.uids = append(w.uids, uid)
}

func (w *writes) LearnMachine(m *metal.Machine) { w.add(m.UID()) }
func (w *writes) LearnNetwork(n *metal.Network) { w.add(n.UID()) }
func (w *writes) LearnIP(i *metal.IP)           { w.add(i.UID()) }
func (w *writes) LearnFreed(ref metal.Ref)      { w.add(ref.ID) }

// learned returns what listeners were called with.
func (e *env) learned() []string {
	e.writes.mu.Lock()
	defer e.writes.mu.Unlock()
	return e.writes.uids
}

// allocate has another client allocate a machine with a network of the project.
func (e *env) allocate(project string) (id string) {
	e.t.Helper()
	id, err := e.sim.AllocateFor(simulator.AllocateRequest{
		Project: project, Name: "m-0", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Networks: []string{e.network(project)},
	})
	require.NoError(e.t, err)
	return id
}

func (e *env) network(project string) string {
	e.t.Helper()
	n, err := e.client.AllocateNetwork(e.t.Context(), metal.NetworkRequest{Project: project, Partition: simulator.DefaultPartition, Name: "net"})
	require.NoError(e.t, err)
	return n.ID
}
