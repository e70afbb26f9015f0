package client

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// nobody is an id that no machine has.
const nobody = "00000000-0000-4000-8000-00000000ffff"

// bed is a simulator with a client on it, without a network between them, so
// that all of it runs in the time of a synctest bubble.
type bed struct {
	t      *testing.T
	sim    *simulator.Simulator
	wire   *metaltest.Transport
	client *Client
	writes *writes
}

type bedConfig struct{ sim simulator.Config }

// inBed runs a test in a bubble.
func inBed(t *testing.T, cfg bedConfig, test func(t *testing.T, b *bed)) {
	t.Helper()
	metaltest.Run(t, metaltest.Config{Simulator: cfg.sim}, func(t *testing.T, e *metaltest.Environment) {
		b := &bed{t: t, sim: e.Simulator, wire: e.Transport, writes: &writes{}}
		var err error
		b.client, err = New(Options{
			URL: metaltest.URL, HMAC: simulator.DefaultHMAC.Edit, AuthType: AuthEdit, Transport: b.wire,
		})
		require.NoError(t, err)
		b.client.AddWriteListener(b.writes)
		test(t, b)
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

// learned returns what listeners were told.
func (b *bed) learned() []string {
	b.writes.mu.Lock()
	defer b.writes.mu.Unlock()
	return b.writes.uids
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
