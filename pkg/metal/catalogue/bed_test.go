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

// nobody is an id that no machine and no project has.
const nobody = "00000000-0000-4000-8000-00000000ffff"

// bed is a simulator with a client on it, in the time of a synctest bubble.
type bed struct {
	t      *testing.T
	sim    *simulator.Simulator
	wire   *metaltest.Transport
	client *client.Client
	facts  observed
}

type bedConfig struct{}

// inBed runs a test in a bubble.
func inBed(t *testing.T, _ bedConfig, test func(t *testing.T, b *bed)) {
	t.Helper()
	metaltest.Run(t, metaltest.Config{}, func(t *testing.T, e *metaltest.Environment) {
		b := &bed{t: t, sim: e.Simulator, wire: e.Transport, facts: observed{}}
		var err error
		b.client, err = client.New(client.Options{URL: metaltest.URL, HMAC: simulator.DefaultHMAC.Edit, Transport: b.wire})
		require.NoError(t, err)
		test(t, b)
	})
}

// observed are the machines that were observed, by id.
type observed map[string]*metal.Machine

// Machine implements Facts.
func (o observed) Machine(id string) (*metal.Machine, metal.Presence) {
	if m := o[id]; m != nil {
		return m, metal.Present
	}
	return nil, metal.Unseen
}

// observe has a machine observed as a find shows it.
func (b *bed) observe(id string) {
	b.t.Helper()
	found, err := b.client.FindMachines(b.t.Context(), metal.MachineQuery{ID: id})
	require.NoError(b.t, err)
	require.Len(b.t, found, 1)
	b.facts[id] = found[0]
}

// allocated lets somebody else allocate a machine with a network of the project.
func (b *bed) allocated(project string) (id string) {
	b.t.Helper()
	id, err := b.sim.AllocateFor(simulator.AllocateRequest{
		Project: project, Name: "m-0", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Networks: []string{b.network(project)},
	})
	require.NoError(b.t, err)
	return id
}

func (b *bed) network(project string) string {
	b.t.Helper()
	id, err := b.sim.AllocateNetworkFor(project, simulator.DefaultPartition, "net", nil)
	require.NoError(b.t, err)
	return id
}

const soon = 100 * time.Millisecond
