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

// nobody is an id that no machine has.
const nobody = "00000000-0000-4000-8000-00000000ffff"

// bed is a simulator with a client and an observer on it, without a network
// between them: so that all of it runs in the time of a synctest bubble.
type bed struct {
	t       *testing.T
	sim     *simulator.Simulator
	wire    *metaltest.Transport
	client  *client.Client
	obs     *Observer
	cleanup func(func())

	mu      sync.Mutex
	changes [][]metal.Ref
	named   []metal.Ref
}

type bedConfig struct {
	machines int
	costs    bool
	options  Options
	timeouts client.Timeouts
	sim      simulator.Config
}

// inBed runs a test in a bubble.
func inBed(t *testing.T, cfg bedConfig, test func(t *testing.T, b *bed)) {
	t.Helper()
	metaltest.Run(t, metaltest.Config{Machines: cfg.machines, Costs: cfg.costs, Simulator: cfg.sim}, func(t *testing.T, e *metaltest.Environment) {
		test(t, newBed(t, cfg, e))
	})
}

func newBed(t *testing.T, cfg bedConfig, e *metaltest.Environment) *bed {
	b := &bed{t: t, sim: e.Simulator, wire: e.Transport, cleanup: e.Cleanup}
	var err error
	b.client, err = client.New(client.Options{
		URL: metaltest.URL, HMAC: simulator.DefaultHMAC.Edit, AuthType: client.AuthEdit,
		Transport: b.wire, Timeouts: cfg.timeouts,
	})
	require.NoError(t, err)
	cfg.options.Changed = func(refs []metal.Ref) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.changes = append(b.changes, refs)
	}
	if cfg.options.Named == nil {
		cfg.options.Named = func() []metal.Ref {
			b.mu.Lock()
			defer b.mu.Unlock()
			return slices.Clone(b.named)
		}
	}
	b.obs = New(b.client, cfg.options)
	return b
}

// run runs the observer until the test ends or stop is called.
func (b *bed) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.obs.Run(ctx)
	}()
	stopped := sync.OnceFunc(func() { cancel(); <-done })
	b.cleanup(stopped)
	return stopped
}

// swept makes one sweep.
func (b *bed) swept() {
	b.t.Helper()
	require.NoError(b.t, b.obs.sweep(b.t.Context()))
}

func (b *bed) name(refs ...metal.Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.named = append(b.named, refs...)
}

// told returns what Changed was told since the last call.
func (b *bed) told() []metal.Ref {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := slices.Concat(b.changes...)
	b.changes = nil
	return told
}

// allocated lets somebody else allocate machines, each with a network of the
// project, and returns their ids.
func (b *bed) allocated(project string, n int) (ids []string) {
	b.t.Helper()
	network := b.network(project)
	for i := range n {
		id, err := b.sim.AllocateFor(simulator.AllocateRequest{
			Project: project, Name: fmt.Sprintf("m-%d", i), Size: simulator.SmallSize,
			Partition: simulator.DefaultPartition, Networks: []string{network},
		})
		require.NoError(b.t, err)
		ids = append(ids, id)
	}
	return ids
}

func (b *bed) network(project string) string {
	b.t.Helper()
	n, err := b.client.AllocateNetwork(b.t.Context(), metal.NetworkRequest{Project: project, Partition: simulator.DefaultPartition, Name: "net"})
	require.NoError(b.t, err)
	return n.ID
}

// request is a machine of the usual kind.
func (b *bed) request(network string) metal.MachineRequest {
	return metal.MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize,
		Image: simulator.MachineImage, Name: "node-1", Hostname: "node-1", Networks: []string{network},
		Tags: []string{metal.Tag(metal.TagUID, "uid-1")}, UserData: []byte("#cloud-config\npassword: hunter22\n"),
	}
}

func (b *bed) machine(id string) *metal.Machine {
	b.t.Helper()
	m, presence := b.obs.Machine(id)
	require.Equal(b.t, metal.Present, presence)
	return m
}

const soon = 100 * time.Millisecond
