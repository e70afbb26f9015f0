// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// env is a simulator with a client on it, in the time of a synctest bubble.
type env struct {
	t         *testing.T
	sim       *simulator.Simulator
	transport *metaltest.Transport
	client    *client.Client
	facts     observed
}

type envConfig struct{}

// runTest runs a test in a bubble.
func runTest(t *testing.T, _ envConfig, test func(t *testing.T, e *env)) {
	t.Helper()
	metaltest.Run(t, metaltest.Config{}, func(t *testing.T, m *metaltest.Environment) {
		e := &env{t: t, sim: m.Simulator, transport: m.Transport, facts: observed{}}
		var err error
		e.client, err = client.New(client.Options{URL: metaltest.URL, HMAC: simulator.DefaultHMAC.Edit, Transport: e.transport})
		require.NoError(t, err)
		test(t, e)
	})
}

// observed are the machines that were observed, by id.
type observed map[string]*metal.Machine

// Machine implements Facts.
func (o observed) Machine(id string) (*metal.Machine, metal.Presence) {
	if m := o[id]; m != nil {
		return m, metal.Present
	}
	return nil, metal.Unobserved
}

// observe has a machine observed as a find shows it.
func (e *env) observe(id string) {
	e.t.Helper()
	found, err := e.client.FindMachines(e.t.Context(), metal.MachineQuery{ID: id})
	require.NoError(e.t, err)
	require.Len(e.t, found, 1)
	e.facts[id] = found[0]
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
	id, err := e.sim.AllocateNetworkFor(project, simulator.DefaultPartition, "net", nil)
	require.NoError(e.t, err)
	return id
}

const soon = 100 * time.Millisecond
