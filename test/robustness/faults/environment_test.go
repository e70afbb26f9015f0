// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/options"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	teamA = "team-a"
	teamB = "team-b"

	managementCluster = "0a000000-0000-4000-8000-00000000c1de"
	// restartAfter is how long a process is away.
	restartAfter = 3 * time.Second
)

var managementTag = metal.Tag(metal.TagManagementCluster, managementCluster)

// setup says how much there is, and how often it is observed, which takes most of
// the time.
type setup struct {
	servers int
	// Of each four machines, three are small ones.
	machines                     int
	sweepInterval, focusInterval time.Duration
	// convergence is how long it may take until nothing is left to do.
	convergence time.Duration
}

// historySetup has machines for all names, and for what administrators allocate by
// hand; observations meet all that goes wrong.
func historySetup(servers int) setup {
	return setup{servers: servers, machines: 16, sweepInterval: 20 * time.Second, focusInterval: 3 * time.Second, convergence: convergenceTimeout}
}

// pointSetup has machines for the names of a point, and no more observations than
// it takes to come to rest.
func pointSetup(servers int) setup {
	return setup{servers: servers, machines: 8, sweepInterval: time.Minute, focusInterval: 5 * time.Second, convergence: convergenceTimeout}
}

// breaks are what a test of the suite itself breaks on purpose.
type breaks struct {
	ledger func(ledger.Ledger) ledger.Ledger
	metal  func(allocation.Metal) allocation.Metal
	timing allocation.Timing
}

// environment is a metal-api, a ledger and a Lease, servers that come and go
// over them, and clients, a controller manager, watchers and other
// administrators. All of it lives in one bubble of synctest, on its time.
type environment struct {
	t              testing.TB
	setup          setup
	breaks         breaks
	began          time.Time
	sim            *simulator.Simulator
	api            *atWork
	records        *records
	lease          *lease
	traps          *traps
	journal        *journal
	secrets        *secrets
	binding        options.StaticBindings
	administrators *administrators
	// clocks are the nodes', by server; revisionClock steps by hours.
	clocks        map[string]*nodeClock
	revisionClock *nodeClock
	watchers      []*watcher

	end     context.CancelFunc
	clients sync.WaitGroup

	mu            sync.Mutex
	servers       map[string]*server
	over          bool
	faultsStopped bool
	faults        []func()
	notes         []string
}

// newEnvironment starts everything. It is called in a bubble.
func newEnvironment(t testing.TB, seed uint64, setup setup, breaks breaks) *environment {
	env := &environment{
		t: t, setup: setup, breaks: breaks, began: time.Now(), secrets: newSecrets(), traps: newTraps(), journal: newJournal(),
		lease: &lease{cut: map[string]time.Time{}}, clocks: map[string]*nodeClock{}, revisionClock: newClock(0), servers: map[string]*server{},
	}
	var err error
	env.sim, err = simulator.New(simulator.Config{Seed: seed, Speed: 1, Costs: true, Compact: true, HMAC: simulator.HMACKeys{Edit: editKey}, DataCentre: simulator.DefaultDataCentre(setup.machines)})
	require.NoError(t, err)
	env.api = &atWork{Handler: env.sim.Handler(), frees: map[string]int{}}
	env.records = newRecords(env.secrets, env.journal.recorded)
	if breaks.ledger != nil {
		env.records.Ledger = breaks.ledger(env.records.Ledger)
	}
	env.binding, err = (&options.Records{ProjectBindings: []string{teamA + "=" + simulator.ProjectA, teamB + "=" + simulator.ProjectB}}).Bindings()
	require.NoError(t, err)
	network, err := env.sim.AllocateNetworkFor(simulator.ProjectB, simulator.DefaultPartition, "theirs", nil)
	require.NoError(t, err)
	_, err = env.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "theirs", nil)
	require.NoError(t, err)
	own, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by-hand", nil)
	require.NoError(t, err)
	env.administrators = &administrators{env: env, network: network, own: own, tags: map[string][]string{}}
	for i := range setup.servers {
		name := fmt.Sprintf("server-%d", i)
		env.clocks[name] = newClock(0)
		env.servers[name] = env.startServer(name)
	}
	var ctx context.Context
	ctx, env.end = context.WithCancel(context.Background())
	c := &controllerManager{env: env, busy: map[string]bool{}}
	env.clients.Go(func() { c.run(ctx) })
	for i, resource := range resources {
		for j := range 2 {
			f := &watcher{env: env, resource: resource, patience: time.Duration(20+30*j+7*i) * time.Second, known: nil}
			env.watchers = append(env.watchers, f)
			env.clients.Go(func() { f.follow(ctx) })
		}
	}
	return env
}

// close ends everything, so that the bubble can.
func (env *environment) close() {
	env.mu.Lock()
	env.over = true
	all := env.servers
	env.mu.Unlock()
	env.end()
	env.traps.clear()
	env.records.clearFaults()
	env.sim.Close()
	for _, s := range all {
		s.kill()
	}
	env.clients.Wait()
	env.records.late.Wait()
	// What still waits for a deadline of its own comes to its end.
	time.Sleep(15 * time.Minute)
}

// restart starts a process again that has ended.
func (env *environment) restart(name string) {
	go func() {
		time.Sleep(restartAfter)
		env.mu.Lock()
		defer env.mu.Unlock()
		if !env.over {
			env.servers[name] = env.startServer(name)
		}
	}()
}

// active is the server to which the Service leads.
func (env *environment) active() *server {
	holder := env.lease.heldBy()
	env.mu.Lock()
	defer env.mu.Unlock()
	if s := env.servers[holder]; s != nil && s.open.Load() {
		return s
	}
	for _, name := range slices.Sorted(maps.Keys(env.servers)) {
		if s := env.servers[name]; s.open.Load() {
			return s
		}
	}
	return nil
}

func (env *environment) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// note logs what happened.
func (env *environment) note(format string, args ...any) {
	env.mu.Lock()
	defer env.mu.Unlock()
	env.notes = append(env.notes, fmt.Sprintf("%10s  ", time.Since(env.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

func (env *environment) story() string {
	env.mu.Lock()
	defer env.mu.Unlock()
	return strings.Join(env.notes, "\n")
}

// hostedCluster is the cluster whose control plane's provider brings the endpoint.
const hostedCluster = "c1"

// newObject is what a client creates.
func newObject(resource, name string) runtime.Object {
	m := metav1.ObjectMeta{Namespace: teamA, Name: name}
	switch {
	case resource == clusters && name == hostedCluster:
		return &infrastructure.MetalStackCluster{ObjectMeta: m, Spec: infrastructure.MetalStackClusterSpec{
			Partition: simulator.DefaultPartition, ControlPlaneEndpointProvider: infrastructure.EndpointOfControlPlane,
		}}
	case resource == clusters:
		return &infrastructure.MetalStackCluster{ObjectMeta: m, Spec: infrastructure.MetalStackClusterSpec{
			Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork, ControlPlaneEndpoint: infrastructure.APIEndpoint{Port: 6443},
		}}
	case resource == firewalls:
		return &infrastructure.MetalStackFirewall{ObjectMeta: m, Spec: infrastructure.MetalStackFirewallSpec{
			Image: simulator.FirewallImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition,
		}}
	}
	return &infrastructure.MetalStackMachine{ObjectMeta: m, Spec: infrastructure.MetalStackMachineSpec{
		Image: simulator.MachineImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition,
	}}
}
