// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

const (
	teamA             = "team-a"
	teamB             = "team-b"
	managementCluster = "0a000000-0000-4000-8000-00000000c1de"
)

// environment is a simulated metal-api and records, for any number of Protocols.
type environment struct {
	t         testing.TB
	sim       *simulator.Simulator
	srv       *simtest.Server
	clock     *clocktesting.FakeClock
	client    *metalclient.Client
	observer  *fakeObserver
	machines  *memRecords[*infrastructure.MetalStackMachine]
	firewalls *memRecords[*infrastructure.MetalStackFirewall]
	clusters  *memRecords[*infrastructure.MetalStackCluster]
	networks  *memRecords[*infrastructure.MetalStackNetwork]
	ips       *memRecords[*infrastructure.MetalStackIP]
	bindings  *tenancy.Static
	logs      *logBuffer
	p         *Protocol
}

func newEnvironment(t testing.TB) *environment {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	srv := simtest.Start(t, simulator.Config{Clock: clock, Seed: 7})
	bindings, err := tenancy.NewStatic([]string{teamA + "=" + simulator.ProjectA, teamB + "=" + simulator.ProjectB})
	require.NoError(t, err)
	env := &environment{t: t, sim: srv.Sim, srv: srv, clock: clock, bindings: bindings, logs: &logBuffer{}}
	env.client, err = metalclient.New(metalclient.Options{URL: srv.URL, HMAC: srv.Key("Metal-Edit"), AuthType: metalclient.AuthEdit})
	require.NoError(t, err)
	env.observer = &fakeObserver{machines: map[string]*metal.Machine{}, networks: map[string]*metal.Network{}, ips: map[string]*metal.IP{}}
	source := projection.Source{Facts: env.observer, Bindings: bindings, Clock: clock}
	env.machines = newMemRecords[*infrastructure.MetalStackMachine](machineResource, projection.NewMachineProjector(source))
	env.firewalls = newMemRecords[*infrastructure.MetalStackFirewall](firewallResource, projection.NewFirewallProjector(source))
	env.clusters = newMemRecords[*infrastructure.MetalStackCluster](clusterResource, projection.NewClusterProjector(source))
	env.networks = newMemRecords[*infrastructure.MetalStackNetwork](networkResource, projection.NewNetworkProjector(source))
	env.ips = newMemRecords[*infrastructure.MetalStackIP](ipResource, projection.NewIPProjector(source))
	env.p = env.newProtocol()
	return env
}

// newProtocol is another server with the same records and metal-api.
func (env *environment) newProtocol() *Protocol { return env.newProtocolWith(env.client) }

func (env *environment) newProtocolWith(api Metal) *Protocol {
	p := New(Options{
		Machines: env.machines, Firewalls: env.firewalls, Clusters: env.clusters, Networks: env.networks, IPs: env.ips,
		Metal: api, Observer: env.observer, Bindings: env.bindings, ManagementCluster: managementCluster, Clock: env.clock,
	})
	env.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			env.t.Errorf("shutdown: %v", err)
		}
	})
	return p
}

func (env *environment) context() context.Context {
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(env.logs), textlogger.Verbosity(9)))
	return klog.NewContext(context.Background(), logger)
}

// whileClockAdvances calls do, and advances the clock whenever anything waits for it.
func (env *environment) whileClockAdvances(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		if env.clock.HasWaiters() {
			env.advance(500 * time.Millisecond)
		}
		runtime.Gosched()
		time.Sleep(20 * time.Microsecond)
	}
}

// advance advances the clock, while all machines send Alive events.
func (env *environment) advance(d time.Duration) {
	const breath = time.Minute
	for ; d > breath; d -= breath {
		env.clock.Step(breath)
		env.sendAliveEvents()
	}
	before := env.clock.Now()
	env.clock.Step(d)
	if before.Truncate(breath) != env.clock.Now().Truncate(breath) {
		env.sendAliveEvents()
	}
}

func (env *environment) sendAliveEvents() {
	for _, m := range env.sim.Inventory().Machines {
		_ = env.sim.SendEvent(m.ID, "Alive", "")
	}
}

var errCrashed = errors.New("killed")

// crashAt makes a server crash the nth time that it reaches a crash point.
func (env *environment) crashAt(p *Protocol, step string, nth int) (reached func() bool) {
	var mu sync.Mutex
	times := 0
	p.onCrashPoint = func(s string) {
		mu.Lock()
		if s == step {
			times++
		}
		dead := times >= nth
		mu.Unlock()
		if dead {
			// All of its goroutines end at their next crash point.
			runtime.Goexit()
		}
	}
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return times >= nth
	}
}

func (env *environment) cluster(name string, spec ...func(*infrastructure.MetalStackCluster)) *infrastructure.MetalStackCluster {
	c := &infrastructure.MetalStackCluster{
		ObjectMeta: env.meta(teamA, name),
		Spec: infrastructure.MetalStackClusterSpec{
			Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork,
			ControlPlaneEndpoint: infrastructure.APIEndpoint{Port: 6443},
		},
	}
	for _, s := range spec {
		s(c)
	}
	return env.clusters.put(env.t, c)
}

func (env *environment) machine(name string, spec ...func(*infrastructure.MetalStackMachine)) *infrastructure.MetalStackMachine {
	m := &infrastructure.MetalStackMachine{
		ObjectMeta: env.meta(teamA, name),
		Spec: infrastructure.MetalStackMachineSpec{
			Image: simulator.MachineImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition,
		},
	}
	for _, s := range spec {
		s(m)
	}
	return env.machines.put(env.t, m)
}

func (env *environment) firewall(name string) *infrastructure.MetalStackFirewall {
	return env.firewalls.put(env.t, &infrastructure.MetalStackFirewall{
		ObjectMeta: env.meta(teamA, name),
		Spec: infrastructure.MetalStackFirewallSpec{
			Image: simulator.FirewallImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition,
			Rules: &infrastructure.FirewallRules{Egress: []infrastructure.FirewallEgressRule{
				{Protocol: "TCP", Ports: []int32{443}, To: []string{"0.0.0.0/0"}, Comment: "https"},
			}},
		},
	})
}

func (env *environment) meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(uuid.NewString()), Generation: 1,
		CreationTimestamp: metav1.NewTime(env.clock.Now().Truncate(time.Second)),
	}
}

const userData = "#cloud-config\n# the-secret-join-token-of-a-node\n"

func body(cluster string) *infrastructure.Allocation {
	b := &infrastructure.Allocation{UserData: []byte(userData)}
	if cluster != "" {
		b.ClusterRef = &infrastructure.LocalReference{Name: cluster}
	}
	return b
}

// allocatedCluster is a cluster with network and address.
func (env *environment) allocatedCluster(name string, spec ...func(*infrastructure.MetalStackCluster)) *infrastructure.MetalStackCluster {
	env.t.Helper()
	env.cluster(name, spec...)
	var c *infrastructure.MetalStackCluster
	var err error
	env.whileClockAdvances(func() { c, err = env.p.AllocateCluster(env.context(), teamA, name, body("")) })
	require.NoError(env.t, err)
	return c
}

func (env *environment) allocate(p *Protocol, name, cluster string) (m *infrastructure.MetalStackMachine, err error) {
	err = errCrashed
	env.whileClockAdvances(func() { m, err = p.AllocateMachine(env.context(), teamA, name, body(cluster)) })
	return m, err
}

func (env *environment) release(p *Protocol, name string) (m *infrastructure.MetalStackMachine, err error) {
	err = errCrashed
	env.whileClockAdvances(func() { m, err = p.ReleaseMachine(env.context(), teamA, name, "") })
	return m, err
}

func (env *environment) getMachine(name string) *infrastructure.MetalStackMachine {
	m, err := env.machines.Get(context.Background(), teamA, name)
	require.NoError(env.t, err)
	return m
}

func uidTag(uid types.UID) string { return metal.Tag(metal.TagUID, string(uid)) }

// machinesWithIdentity are the machines that carry an object's identity now.
func (env *environment) machinesWithIdentity(uid types.UID) []simulator.MachineState {
	return env.sim.Inventory().AllocatedWith(uidTag(uid))
}

// sweep makes the observer observe all machines.
func (env *environment) sweep() {
	all, err := env.client.ListMachines(context.Background())
	require.NoError(env.t, err)
	env.observer.mu.Lock()
	defer env.observer.mu.Unlock()
	for _, m := range all {
		env.observer.machines[m.ID] = m
	}
}

// requireNoSecrets fails if user data is anywhere but in the metal-api.
func (env *environment) requireNoSecrets(errs ...error) {
	env.t.Helper()
	for _, secret := range []string{"the-secret-join-token", "dGhlLXNlY3JldC1qb2lu", "I2Nsb3VkLWNvbmZpZwoj"} {
		require.NotContains(env.t, string(env.machines.everything()), secret)
		require.NotContains(env.t, string(env.firewalls.everything()), secret)
		require.NotContains(env.t, string(env.clusters.everything()), secret)
		require.NotContains(env.t, env.logs.String(), secret)
		for _, err := range errs {
			require.NotContains(env.t, fmt.Sprintf("%v %#v", err, err), secret)
		}
	}
}

// fakeObserver is an Observer that knows what a test passes to it.
type fakeObserver struct {
	mu       sync.Mutex
	machines map[string]*metal.Machine
	networks map[string]*metal.Network
	ips      map[string]*metal.IP
}

func factOf[T any](s *fakeObserver, facts map[string]*T, id string) (*T, metal.Presence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := facts[id]; ok {
		return f, metal.Present
	}
	return nil, metal.Unobserved
}

func (o *fakeObserver) Machine(id string) (*metal.Machine, metal.Presence) {
	return factOf(o, o.machines, id)
}
func (o *fakeObserver) Network(id string) (*metal.Network, metal.Presence) {
	return factOf(o, o.networks, id)
}
func (o *fakeObserver) IP(address string) (*metal.IP, metal.Presence) {
	return factOf(o, o.ips, address)
}

func (o *fakeObserver) MachinesByUID(uid string) []*metal.Machine {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []*metal.Machine
	for _, m := range o.machines {
		if m.Allocation != nil && m.UID() == uid {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b *metal.Machine) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	return found
}

func (o *fakeObserver) LearnMachine(m *metal.Machine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.machines[m.ID] = m
}

func (o *fakeObserver) LearnNetwork(n *metal.Network) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.networks[n.ID] = n
}

func (o *fakeObserver) LearnIP(i *metal.IP) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ips[i.Address] = i
}

func (o *fakeObserver) LearnFreed(ref metal.Ref) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.networks, ref.ID)
	delete(o.ips, ref.ID)
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// requireNothingAllocated fails if a project holds anything.
func (env *environment) requireNothingAllocated() {
	env.t.Helper()
	b := env.sim.Inventory()
	for _, m := range b.Machines {
		require.False(env.t, m.Allocated, "machine %s is still allocated", m.ID)
	}
	for _, n := range b.Networks {
		require.Empty(env.t, n.Project, "network %s is still there", n.ID)
		require.False(env.t, n.HalfFreed, "network %s is wrecked", n.ID)
	}
	for _, ip := range b.IPs {
		require.Empty(env.t, ip.Project, "address %s is still there", ip.Address)
	}
}

func replaced(s, old, with string) string {
	return string(bytes.ReplaceAll([]byte(s), []byte(old), []byte(with)))
}
