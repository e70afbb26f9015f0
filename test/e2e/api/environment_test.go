// SPDX-License-Identifier: Apache-2.0

// Package api tests the running server over HTTP with client-go, as kubectl
// and controllers use it, against the simulator.
package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	teamA, teamB       = testserver.NamespaceA, testserver.NamespaceB
	projectA, projectB = simulator.ProjectA, simulator.ProjectB
	partition          = simulator.DefaultPartition
	small              = simulator.SmallSize
	image              = simulator.MachineImage
	otherImage         = "ubuntu-22.04"
	firewallImage      = simulator.FirewallImage
)

var machinesGVR = v1alpha4.SchemeGroupVersion.WithResource("metalstackmachines")

type (
	machineT = v1alpha4.MetalStackMachine
	clusterT = v1alpha4.MetalStackCluster
	fault    = simulator.Fault
)

var (
	truncatedList = fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedList, Fraction: 0}
	truncatedBody = fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedBody}
)

// option changes how an environment is started.
type option func(*testserver.Options)

// quickSweep looks at everything several times a second.
func quickSweep(o *testserver.Options) { o.SweepInterval = 100 * time.Millisecond }

// noSweep looks once, and then only when it is asked: what is seen is seen by
// reads.
func noSweep(o *testserver.Options) { o.SweepInterval = time.Hour }

// seedInventory is the data centre of the archived provider's examples.
func seedInventory(o *testserver.Options) {
	d := simulator.DefaultDataCentre(8)
	p := d.Partitions[0]
	p.ID = "vagrant"
	d.Partitions = append(d.Partitions, p)
	d.Images = append(d.Images,
		simulator.Image{ID: "firewall-ubuntu-2.0.20210131", Features: []string{"firewall"}},
		simulator.Image{ID: "ubuntu-cloud-init-20.04.20210131", Features: []string{"machine"}})
	internet := d.Networks[slices.IndexFunc(d.Networks, func(n simulator.Network) bool { return n.ID == simulator.InternetNetwork })]
	internet.ID, internet.Partition = "internet-vagrant-lab", "vagrant"
	internet.Prefixes, internet.VRF = []string{"100.255.254.0/24"}, 104010
	d.Networks = append(d.Networks, internet)
	for _, id := range []string{"2294c949-88f6-5390-8154-fa53d93a3313", "e0ab02d2-27cd-5a5e-8efc-080ba80cf258"} {
		d.Machines = append(d.Machines, simulator.Machine{ID: id, Partition: p.ID, Rack: "vagrant-rack", Size: small})
	}
	d.Projects = append(d.Projects, simulator.Project{ID: "00000000-0000-0000-0000-000000000000", Name: "seed", Tenant: d.Projects[0].Tenant})
	o.Simulator.DataCentre = d
	o.Bind = []string{"metal-stack=00000000-0000-0000-0000-000000000000", "default=" + projectA}
}

// environment is a server under test with a client, and the metal behind it.
type environment struct {
	*testserver.Server
	sim      *simulator.Simulator
	config   *rest.Config
	client   versioned.Interface
	warnings *warnings
}

func start(t *testing.T, opts ...option) *environment {
	t.Helper()
	o := testserver.Options{Simulator: simulator.Config{DataCentre: simulator.DefaultDataCentre(12)}}
	for _, opt := range opts {
		opt(&o)
	}
	s := testserver.Start(t, o)
	env := &environment{Server: s, sim: s.Metal.Sim, config: rest.CopyConfig(s.Config), warnings: &warnings{}}
	env.config.WarningHandler = env.warnings
	var err error
	env.client, err = versioned.NewForConfig(env.config)
	require.NoError(t, err)
	return env
}

func (env *environment) machines(namespace string) typed.MetalStackMachineInterface {
	return env.client.InfrastructureV1alpha4().MetalStackMachines(namespace)
}

func (env *environment) clusters(namespace string) typed.MetalStackClusterInterface {
	return env.client.InfrastructureV1alpha4().MetalStackClusters(namespace)
}

// restart kills the server, as a power cut would, and starts it again.
func (env *environment) restart(t *testing.T) {
	t.Helper()
	env.Kill()
	env.Restart()
}

func machine(name string) *machineT { return objects.Machine(name, objects.InDefaultPartition) }

func cluster(name string) *clusterT { return objects.Cluster(name) }

// allocate makes a machine in team A, with a cluster for its network, and
// turns both into metal.
func (env *environment) allocate(t *testing.T, name string) *machineT {
	t.Helper()
	ctx := t.Context()
	_, err := env.clusters(teamA).Create(ctx, cluster("of-"+name), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = env.clusters(teamA).Allocate(ctx, "of-"+name, &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = env.machines(teamA).Create(ctx, machine(name), metav1.CreateOptions{})
	require.NoError(t, err)
	m, err := env.machines(teamA).Allocate(ctx, name, &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "of-" + name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, m.Status.Metal.MachineID)
	return m
}

// tryAllocate asks for metal for a machine of team A, in the network of any
// cluster that there is.
func (env *environment) tryAllocate(t *testing.T, name string) (*machineT, error) {
	return env.machines(teamA).Allocate(t.Context(), name, &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "of-node-1"}}, metav1.CreateOptions{})
}

// phonedHome makes a machine that is up and running; it returns the server's id.
func (env *environment) phonedHome(t *testing.T, name string) string {
	t.Helper()
	id := env.allocate(t, name).Status.Metal.MachineID
	require.NoError(t, env.sim.PhoneHome(id))
	require.Eventually(t, func() bool {
		m, err := env.machines(teamA).Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && m.Status.Ready
	}, time.Minute, 10*time.Millisecond)
	return id
}

// somebodyElses is a machine that was allocated in a project without our doing.
func (env *environment) somebodyElses(t *testing.T, project string) (id string) {
	t.Helper()
	network := env.privateNetwork(t, project)
	id, err := env.sim.AllocateFor(simulator.AllocateRequest{Project: project, Name: "theirs", Hostname: "theirs",
		Size: small, Partition: partition, Image: image, Networks: []string{network}})
	require.NoError(t, err)
	return id
}

// privateNetwork makes a private network for a machine of another client.
func (env *environment) privateNetwork(t *testing.T, project string) string {
	t.Helper()
	resp, err := env.Metal.Client.Network().AllocateNetwork(network.NewAllocateNetworkParams().WithBody(&models.V1NetworkAllocateRequest{
		Projectid: project, Partitionid: partition, Name: "theirs"}), nil)
	require.NoError(t, err)
	return *resp.Payload.ID
}

// seen waits until a list of a namespace holds an object.
func (env *environment) seen(t *testing.T, namespace, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		list, err := env.machines(namespace).List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
		return err == nil && slices.Contains(namesOf(list.Items), name)
	}, time.Minute, 10*time.Millisecond)
}

func (env *environment) revision(t *testing.T, namespace string) string {
	t.Helper()
	list, err := env.machines(namespace).List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	require.NoError(t, err)
	return list.ResourceVersion
}

// sweeps waits until the server has looked at everything n times more.
func (env *environment) sweeps(t *testing.T, n int) {
	t.Helper()
	want := env.sim.CallsOf("machine-list") + n
	require.Eventually(t, func() bool { return env.sim.CallsOf("machine-list") >= want }, time.Minute, 10*time.Millisecond)
}

// allocated reports whether a machine is allocated, by the simulator's inventory.
func (env *environment) allocated(id string) bool {
	return slices.ContainsFunc(env.sim.Inventory().Machines, func(m simulator.MachineState) bool { return m.ID == id && m.Allocated })
}

func (env *environment) tags(id string) []string {
	for _, m := range env.sim.Inventory().Machines {
		if m.ID == id {
			return m.Tags
		}
	}
	return nil
}

func (env *environment) waitingMachine(t *testing.T) string {
	t.Helper()
	for _, m := range env.sim.Inventory().Machines {
		if !m.Allocated && m.Size == small {
			return m.ID
		}
	}
	t.Fatal("no machine is left")
	return ""
}

func (env *environment) inject(f fault) (remove func()) { return env.sim.Inject(f) }

// metalAPIAway closes every connection without an answer.
func (env *environment) metalAPIAway() (comeBack func()) {
	return env.sim.Inject(fault{Endpoint: "*", Kind: simulator.FaultRefused})
}

func (env *environment) dropFinalizers(t *testing.T, namespace, name string) {
	t.Helper()
	_, err := env.machines(namespace).Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
}

func namesOf(items []machineT) (names []string) {
	for _, m := range items {
		names = append(names, m.Name)
	}
	return names
}

func revision(t *testing.T, m *machineT) uint64 {
	t.Helper()
	rv, err := strconv.ParseUint(m.ResourceVersion, 10, 64)
	require.NoError(t, err, "revisions are decimal numbers")
	return rv
}

// next returns the next event of a watch.
func next(t *testing.T, events watch.Interface) watch.Event {
	t.Helper()
	select {
	case e, open := <-events.ResultChan():
		require.True(t, open, "the watch was closed")
		return e
	case <-time.After(time.Minute):
		t.Fatal("the watch says nothing")
		return watch.Event{}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// warnings collects Warning headers.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(code int, agent, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, fmt.Sprint(code, " ", agent, " ", text))
}

func (w *warnings) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = nil
}

func (w *warnings) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.texts, "\n")
}
